package admin

import (
	"io/fs"
	"net"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// tellsPeers says whether the system names the user at the other end.
const tellsPeers = true

// listenMode has the file of a Unix socket made with a mode, so that there is
// no moment in which it has another.
func listenMode(mode fs.FileMode) net.ListenConfig {
	return net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error {
		if network != "unix" {
			return nil
		}
		var err error
		if ctl := raw.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), uint32(mode.Perm())) }); ctl != nil {
			return ctl
		}
		return err
	}}
}

// socketPeer asks the system who is at the other end of a Unix socket.
func socketPeer(c net.Conn) (user peer, ok bool) {
	conn, is := c.(*net.UnixConn)
	if !is {
		return peer{}, false
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, false
	}
	var cred *unix.Ucred
	if ctl := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); ctl != nil || err != nil {
		return peer{}, false
	}
	return peer{strconv.FormatUint(uint64(cred.Uid), 10), strconv.FormatUint(uint64(cred.Gid), 10)}, true
}
