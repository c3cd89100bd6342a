package plugin

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// checkPeer returns nil if the process pid listens at the other end of conn.
func checkPeer(conn net.Conn, pid int) error {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("%w: a %T has no owner", errPeer, conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var perr error
	if err := raw.Control(func(fd uintptr) {
		peer, perr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if perr != nil {
		return fmt.Errorf("who listens at %s: %w", conn.RemoteAddr(), perr)
	}
	if int(peer.Pid) != pid {
		return fmt.Errorf("%w: at %s listens process %d, want the plugin's, %d", errPeer, conn.RemoteAddr(), peer.Pid, pid)
	}
	return nil
}
