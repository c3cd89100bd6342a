package plugin

import (
	"bytes"
	"io"
	"sync"
)

// maxHandshakeBytes bounds the handshake, which holds a socket's address.
const maxHandshakeBytes = 512

var _ io.ReadCloser = (*greeting)(nil)

// greeting hands the first line of standard output, the handshake, to
// go-plugin, and nothing else. A nil greeting wants none.
type greeting struct {
	done chan struct{}
	once sync.Once
	text *bytes.Reader
}

// wants reports whether n bytes without a newline are too many for it.
func (g *greeting) wants(n int) bool {
	return g != nil && n >= maxHandshakeBytes && !g.heard()
}

func (g *greeting) heard() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// take reports whether line was the handshake.
func (g *greeting) take(line []byte) bool {
	if g == nil || g.heard() {
		return false
	}
	// What is no handshake ends in an error message.
	line = bytes.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, line[:min(len(line), maxHandshakeBytes)])
	g.once.Do(func() {
		g.text = bytes.NewReader(append(line, '\n'))
		close(g.done)
	})
	return true
}

// end says that no handshake will come.
func (g *greeting) end() {
	g.once.Do(func() {
		g.text = bytes.NewReader(nil)
		close(g.done)
	})
}

// Read implements io.Reader.
func (g *greeting) Read(p []byte) (int, error) {
	<-g.done
	return g.text.Read(p)
}

// Close implements io.Closer.
func (g *greeting) Close() error { return nil }
