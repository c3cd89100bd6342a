package plugintest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// executeBare calls Execute over HTTP/2 without a gRPC library, which would end
// the call at its deadline whatever the plugin does. It returns how many
// results came and the plugin's own code; an error means that there was none.
func (p *subject) executeBare(ctx context.Context, task plugin.Task, deadline time.Duration) (code codes.Code, results int, err error) {
	data, err := proto.Marshal(message(task))
	if err != nil {
		return 0, 0, err
	}
	// The prefix: not compressed, and the length.
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(data))) //nolint:gosec // bounded by whoever wrote the task
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin"+pluginpb.Plugin_Execute_FullMethodName, bytes.NewReader(append(frame, data...)))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	req.Header.Set("Grpc-Timeout", strconv.FormatInt(deadline.Milliseconds(), 10)+"m")
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &protocols, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.address)
	}}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if results, err = countMessages(resp.Body); err != nil {
		return 0, results, err
	}
	said := resp.Trailer.Get("Grpc-Status")
	if said == "" {
		said = resp.Header.Get("Grpc-Status") // there was no message
	}
	n, err := strconv.ParseUint(said, 10, 8)
	if err != nil {
		return 0, results, fmt.Errorf("HTTP status %s, and no status of gRPC: %w", resp.Status, err)
	}
	return codes.Code(n), results, nil
}

// countMessages reads a body of gRPC to its end.
func countMessages(body io.Reader) (n int, err error) {
	for {
		var prefix [5]byte
		if _, err := io.ReadFull(body, prefix[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return n, nil
			}
			return n, err
		}
		size := int64(binary.BigEndian.Uint32(prefix[1:]))
		if size > pluginpb.MaxMessageBytes {
			return n, fmt.Errorf("a result of %d bytes, at most %d", size, pluginpb.MaxMessageBytes)
		}
		if _, err := io.CopyN(io.Discard, body, size); err != nil {
			return n, err
		}
		n++
	}
}
