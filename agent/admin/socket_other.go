//go:build !linux

package admin

import (
	"io/fs"
	"net"
)

// tellsPeers says whether the system names the user at the other end. Elsewhere
// than on Linux it is not asked: the mode of the file decides who may call.
const tellsPeers = false

// listenMode has no way here to make the file with a mode; settle changes it
// right after.
func listenMode(fs.FileMode) net.ListenConfig { return net.ListenConfig{} }

func socketPeer(net.Conn) (user peer, ok bool) { return peer{}, false }
