package sdk

import (
	"os"
	"runtime"
)

// showName has ps and top show the plugin's name: a process that was executed
// through a descriptor is called by its number.
func showName(name string) {
	if runtime.GOOS == "linux" {
		_ = os.WriteFile("/proc/self/comm", []byte(name), 0) // for people alone
	}
}
