package sdk

import (
	"fmt"
	"os"
	"runtime"

	goplugin "github.com/hashicorp/go-plugin"
)

// serve is goplugin.Serve, but for what it does to os.Stdout and os.Stderr:
// it replaces them by pipes that only the first host ever reads, and a write
// would block for ever under the next. What go-plugin has for tests leaves
// them alone, and leaves the handshake to its caller. On Windows, where no
// plugin outlives its host, certificates protect the connection, which come
// with the handshake of go-plugin's own.
func serve(cfg *goplugin.ServeConfig) {
	if runtime.GOOS == "windows" {
		goplugin.Serve(cfg)
		return
	}
	listening := make(chan *goplugin.ReattachConfig, 1)
	closed := make(chan struct{})
	cfg.Test = &goplugin.ServeTestConfig{ReattachConfigCh: listening, CloseCh: closed}
	go goplugin.Serve(cfg)
	select {
	case at := <-listening:
		_, _ = fmt.Fprintf(os.Stdout, "%d|%d|%s|%s|%s|\n", goplugin.CoreProtocolVersion, at.ProtocolVersion, at.Addr.Network(), at.Addr, at.Protocol)
	case <-closed:
	}
	<-closed
}
