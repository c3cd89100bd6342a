//go:build !race

package plugin_test

// raceDetector is whether these tests run under it.
const raceDetector = false
