//go:build unix

package plugintest

func serveFault(string) error { return nil }
func serveSDK() error { return nil }
