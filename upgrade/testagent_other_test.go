//go:build !linux

package upgrade

// testAgent needs /proc and signals.
func testAgent() error { return ErrNotSupported }
