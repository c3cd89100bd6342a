package plugintest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

func checkHandshake(tb testing.TB, s *suite) {
	p := s.launch(tb)
	_ = p.dial(tb).Close()
}

// checkCookie starts the executable as a user might by mistake.
func checkCookie(tb testing.TB, s *suite) {
	for what, cookie := range map[string]string{"without the cookie": "-", "with another cookie": "another"} {
		p := s.start(tb, conditions{cookie: cookie})
		end := p.mustEnd(tb, s.limits.end, "started "+what+" it must not serve")
		if _, err := parseHandshake(<-p.lines); err == nil {
			tb.Errorf("started %s it printed a handshake", what)
		}
		if end.ExitCode() <= 0 {
			tb.Errorf("started %s: want an exit status that says failure, found %s", what, end)
		}
		if left, err := os.ReadDir(p.sockets); err != nil || len(left) > 0 {
			tb.Errorf("started %s it left %v in the sockets' directory, %v", what, left, err)
		}
	}
}

func checkSocket(tb testing.TB, s *suite) {
	p := s.launch(tb)
	within, err := filepath.Rel(p.sockets, p.address)
	if err != nil || !filepath.IsLocal(within) {
		tb.Errorf("the socket: want it in the directory of PLUGIN_UNIX_SOCKET_DIR, %s, found %s", p.sockets, p.address)
	}
	if fi, err := os.Stat(p.address); err != nil || fi.Mode().Type() != fs.ModeSocket {
		tb.Fatalf("the address of the handshake: want a socket, found %v, %v", fi, err)
	}
	conn := p.dial(tb)
	defer func() { _ = conn.Close() }()
	switch pid, err := peer(conn); {
	case errors.Is(err, errors.ErrUnsupported):
	case err != nil:
		tb.Fatal(err)
	case pid != p.cmd.Process.Pid:
		tb.Errorf("the socket: want it opened by process %d, which the host has started, found process %d; a host takes that for an impostor", p.cmd.Process.Pid, pid)
	}
}

func checkEnvironment(tb testing.TB, s *suite) {
	p := s.start(tb, conditions{bare: true})
	p.shakeHands(tb)
	p.connect(tb).adopt(tb)
}

func checkInfo(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	info, m := h.info(tb), s.Manifest
	if info.GetName() != m.Name || info.GetVersion() != m.Version {
		tb.Errorf("Info: the manifest says %s %s, found %q %q", m.Name, m.Version, info.GetName(), info.GetVersion())
	}
	for _, c := range m.Capabilities {
		if !slices.Contains(info.GetCapabilities(), c) {
			tb.Errorf("Info: the manifest promises the capability %q, found %q", c, info.GetCapabilities())
		}
	}
	h.adopt(tb)
	if after := h.info(tb); after.GetVersion() != info.GetVersion() || !slices.Equal(after.GetCapabilities(), info.GetCapabilities()) {
		tb.Errorf("Info after Start: want the same as before, %v, found %v", info, after)
	}
}

// quiet is how long a stream stays open that has nothing to say.
const quiet = 100 * time.Millisecond

// checkForeignServices calls what go-plugin's client calls of every plugin,
// and expects of one that has not got it.
func checkForeignServices(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	for _, method := range []string{"/plugin.GRPCStdio/StreamStdio", "/plugin.GRPCBroker/StartStream", "/grpc.health.v1.Health/Check"} {
		ctx, cancel := context.WithTimeout(tb.Context(), s.limits.answer)
		stream, err := h.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
		if err == nil {
			_ = stream.SendMsg(&emptypb.Empty{})
			_ = stream.CloseSend()
			// One that has the service may leave the stream open.
			time.AfterFunc(quiet, cancel)
			err = stream.RecvMsg(&emptypb.Empty{})
		}
		cancel()
		if status.Code(err) == codes.Unavailable {
			tb.Errorf("%s: want UNIMPLEMENTED, or the service, found that it broke the connection: %v", method, err)
		}
	}
	h.adopt(tb)
	h.subject.mustLive(tb, "after calls of services that it does not have")
}

func checkAttach(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	first := h.attach(tb)
	if first.started {
		tb.Error("Attach before Start: want started false, found true: no host would start it")
	}
	if err := h.start(tb, s.settings); err != nil {
		tb.Fatalf("Start: %v", err)
	}
	again := h.attach(tb)
	if !again.started {
		tb.Error("Attach after Start: want started true, found false: a host that comes back would start it again")
	}
	h.mustBeWell(tb, "with two streams attached")
	first.mustHold(tb, "while the host was attached")
	again.mustHold(tb, "while the host was attached twice")
}

func checkStart(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	if s.BadSettings == nil {
		tb.Log("not checked: that bad settings are an error; it needs Config.BadSettings")
		return
	}
	if !json.Valid(s.BadSettings) {
		tb.Fatalf("Config.BadSettings is no JSON: %s", s.BadSettings)
	}
	h = s.launch(tb).connect(tb)
	switch err := h.start(tb, s.BadSettings); status.Code(err) {
	case codes.OK:
		tb.Fatal("Start with bad settings: want an error, found none")
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
		tb.Fatalf("Start with bad settings: want the plugin's own error, which the host shows, found %v", err)
	default:
	}
	if h.attach(tb).started {
		tb.Error("Attach after a Start that failed: want started false, found true")
	}
	h.subject.mustLive(tb, "after a Start that failed")
}

// checkGenerations has the old and the new generation of a reload side by
// side.
func checkGenerations(tb testing.TB, s *suite) {
	before, after := s.launch(tb).connect(tb), s.launch(tb).connect(tb)
	before.adopt(tb)
	after.adopt(tb)
	before.mustBeWell(tb, "with a second process beside it")
	if before.subject.address == after.subject.address {
		tb.Errorf("two processes have one socket, %s", after.subject.address)
	}
	ctx, cancel := after.soon(tb)
	defer cancel()
	if _, err := before.rpc.Stop(ctx, &pluginpb.StopRequest{}); err != nil {
		tb.Fatalf("Stop: %v", err)
	}
	after.mustBeWell(tb, "after the other process was stopped")
}
