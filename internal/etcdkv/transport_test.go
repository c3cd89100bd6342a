package etcdkv

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// TestServerThatHangsIsNotTakenForOneOfHTTPS: who reads so looks in the wrong
// place while etcd is stopped.
func TestServerThatHangsIsNotTakenForOneOfHTTPS(t *testing.T) {
	plain := &transport{}
	gaveUp := &net.OpError{Op: "read", Net: "tcp", Err: net.ErrClosed}
	if err := plain.explainRefusal(gaveUp); !strings.Contains(err.Error(), "stopped or overloaded") || !errors.Is(err, net.ErrClosed) {
		t.Errorf("this side gave up: %v", err)
	}
	if err := plain.explainRefusal(io.EOF); !strings.Contains(err.Error(), "if that port serves https, use https endpoints") {
		t.Errorf("the server closed: %v", err)
	}
}
