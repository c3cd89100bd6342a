//go:build unix && !linux

package etcdtest

// awaitStop is for Linux: elsewhere a stopped process may answer for a moment.
func awaitStop(int) error { return nil }
