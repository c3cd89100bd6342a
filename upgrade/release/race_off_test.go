//go:build !race

package release

// raceDetector is whether these tests run under it.
const raceDetector = false
