package plugintest

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// coreProtocol is the version of go-plugin's own protocol, the form of the
// handshake line.
const coreProtocol = 1

// maxHandshake bounds the line, in bytes; go-plugin reads no longer one.
const maxHandshake = 64 << 10

// parseHandshake reads the line
//
//	1|1|unix|/absolute/path/of/the/socket|grpc|
//
// whose last field is for a certificate, which a host does not ask for, and
// may be left out with its separator. It returns the socket's path.
func parseHandshake(line string) (string, error) {
	const form = "1|1|unix|/path/of/the/socket|grpc|"
	fields := strings.Split(line, "|")
	if n := len(fields); n < 5 || n > 6 {
		return "", fmt.Errorf("handshake: want %s, found %d fields in %.200q; nothing may be written to standard output before it", form, n, line)
	}
	versions := []struct {
		what  string
		want  int
		found string
	}{
		{"go-plugin's core protocol", coreProtocol, fields[0]},
		{"the protocol version", pluginpb.ProtocolVersion, fields[1]},
	}
	for _, v := range versions {
		if v.found != strconv.Itoa(v.want) {
			return "", fmt.Errorf("handshake: %s: want %d, found %.20q in %.200q", v.what, v.want, v.found, line)
		}
	}
	path := fields[3]
	switch {
	case fields[2] != "unix":
		return "", fmt.Errorf("handshake: network: want unix, found %.20q", fields[2])
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return "", fmt.Errorf("handshake: address: want a clean absolute path, found %.200q", path)
	case fields[4] != "grpc":
		return "", fmt.Errorf("handshake: kind: want grpc, found %.20q", fields[4])
	case len(fields) == 6 && fields[5] != "":
		return "", fmt.Errorf("handshake: certificate: want none, as the host has sent none, found %.20q", fields[5])
	}
	return path, nil
}
