// Package porttest finds ports for servers of tests that are to have the same
// one again after they were away.
package porttest

import (
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// first is below what systems give to whoever asks for any port, and above what
// services of a machine have.
const first = 12_000

// given are the ports that this process was told of.
//
//nolint:gochecknoglobals // tests of one process must not get the same
var given sync.Map

// Address returns an address of 127.0.0.1 on which nobody listens. Its port is
// one that the system gives to nobody who asks for any: neither to a listener on
// port 0 nor to a connection. So it is still free when the server that has it
// comes back, unless another process of tests has drawn the same.
func Address(tb testing.TB) string {
	tb.Helper()
	for range 1000 {
		port := first + rand.IntN(ephemeral()-first) //nolint:gosec // no secret
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		ln, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		if err := ln.Close(); err != nil {
			tb.Fatal(err)
		}
		return address
	}
	tb.Fatal("no port of 1000 that were tried is free")
	return ""
}

// ephemeral is the first of the ports that the system gives to whoever asks for
// any.
func ephemeral() int {
	const usual = 32_768
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	low, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\t")
	if n, err := strconv.Atoi(low); err == nil && n > first+5000 {
		return n
	}
	return usual
}
