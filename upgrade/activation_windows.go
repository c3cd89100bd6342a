package upgrade

import "os"

// listening is not asked for: no service manager here passes sockets.
func listening(*os.File) bool { return false }
