//go:build !linux

package fleetsim_test

func inMemory() error { return nil }
