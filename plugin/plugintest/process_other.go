//go:build !linux

package plugintest

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"time"
)

func locate(cmd *exec.Cmd, exe *os.File) { cmd.Path = exe.Name() }

// awaitExit cannot look without reaping.
func awaitExit(int) bool { return false }

func usage(int) (processor time.Duration, resident int64, err error) {
	return 0, 0, errors.ErrUnsupported
}

func peer(net.Conn) (int, error) { return 0, errors.ErrUnsupported }
