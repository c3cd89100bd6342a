//go:build !linux

package plugin

import "net"

// checkPeer cannot tell here.
func checkPeer(net.Conn, int) error { return nil }
