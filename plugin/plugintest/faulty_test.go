//go:build unix

package plugintest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// faulty is a raw plugin with one fault in what it serves.
type faulty struct {
	*raw
	fault string

	tasks sync.RWMutex
	kept  [][]byte
}

// serveFault is the main of a plugin that is raw but for one fault.
func serveFault(fault string) error {
	r := newRaw("faulty", "1.2.3")
	f := &faulty{raw: r, fault: fault}
	r.service = f
	if begin := faultyBegins()[fault]; begin != nil {
		if err := begin(r); err != nil {
			return err
		}
	}
	return r.serve()
}

// faultyBegins are the faults in how a process begins.
func faultyBegins() map[string]func(*raw) error {
	setenv := func(key, value string) func(*raw) error {
		return func(*raw) error { return os.Setenv(key, value) }
	}
	return map[string]func(*raw) error{
		"chatters first":     func(*raw) error { fmt.Println("loading plugins"); return nil },
		"speaks of net/rpc":  func(*raw) error { fmt.Println("1|1|unix|/tmp/x|netrpc|"); return nil },
		"speaks version 2":   func(*raw) error { fmt.Println("1|2|unix|/tmp/x|grpc|"); return nil },
		"ends at once":       func(*raw) error { return errors.New("no licence") },
		"says nothing":       func(*raw) error { os.Stdout = os.Stderr; return nil },
		"wants no cookie":    setenv(pluginpb.CookieKey, pluginpb.CookieValue),
		"ends well by hand":  endsWellByHand,
		"listens elsewhere":  listensElsewhere,
		"has a child listen": hasChildListen,
		"wants HOME": func(*raw) error {
			if os.Getenv("HOME") == "" {
				return errors.New("HOME is not set")
			}
			return nil
		},
		"dies of what it does not know": func(r *raw) error {
			r.options = append(r.options, grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { os.Exit(3); return nil }))
			return nil
		},
		"takes 4 MiB":             func(r *raw) error { r.options = nil; return nil },
		"knows no deadline":       knowsNoDeadline,
		"shrugs off SIGTERM":      func(*raw) error { signal.Ignore(syscall.SIGTERM); return nil },
		"takes one connection":    takesOneConnection,
		"never is an orphan":      setenv(pluginpb.OrphanKey, "3600"),
		"locks a file":            locksFile,
		"dies of SIGTERM badly":   diesBadly,
		"is killed when orphaned": isKilled,
	}
}

func endsWellByHand(*raw) error {
	if os.Getenv(pluginpb.CookieKey) != pluginpb.CookieValue {
		os.Exit(0)
	}
	return nil
}

func listensElsewhere(*raw) error {
	room, err := os.Getwd()
	if err != nil {
		return err
	}
	return os.Setenv("PLUGIN_UNIX_SOCKET_DIR", room)
}

func hasChildListen(*raw) error {
	const child = "PLUGINTEST_CHILD"
	if os.Getenv(child) != "" {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(context.Background(), self)
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return errors.Join(cmd.Run(), errors.New("the child has ended"))
}

// knowsNoDeadline serves through net/http and keeps gRPC from learning of the
// deadline.
func knowsNoDeadline(r *raw) error {
	var err error
	if r.listener, err = net.Listen("unix", socketAddress()); err != nil {
		return err
	}
	r.orphan = time.AfterFunc(time.Hour, func() {})
	front := grpc.NewServer(r.options...)
	pluginpb.RegisterPluginServer(front, r.service)
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &protocols, ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.Header.Del("Grpc-Timeout")
		front.ServeHTTP(w, req)
	})}
	fmt.Printf("1|1|unix|%s|grpc|\n", socketAddress())
	return server.Serve(r.listener)
}

// takesOneConnection closes the socket once a host has come.
func takesOneConnection(r *raw) error {
	listener, err := net.Listen("unix", socketAddress())
	r.listener = &single{Listener: listener, end: make(chan struct{})}
	return err
}

// single is a listener for one connection.
type single struct {
	net.Listener

	end   chan struct{}
	taken bool
}

func (s *single) Accept() (net.Conn, error) {
	if s.taken {
		<-s.end
		return nil, net.ErrClosed
	}
	s.taken = true
	conn, err := s.Listener.Accept()
	_ = s.Listener.Close()
	return conn, err
}

func (s *single) Close() error { close(s.end); return nil }

// locksFile works while no other process of it does.
func locksFile(*raw) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	f, err := os.Open(self)
	if err != nil {
		return err
	}
	// The descriptor is never closed, and the lock ends with the process.
	fd, err := syscall.Dup(int(f.Fd()))
	if err != nil {
		return err
	}
	return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
}

// isKilled leaves its end to a signal, at a time when the check has long
// waited.
func isKilled(*raw) error {
	time.AfterFunc(6*time.Second, func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) })
	return os.Setenv(pluginpb.OrphanKey, "3600")
}

func diesBadly(*raw) error {
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM)
	go func() { <-terms; os.Exit(3) }()
	return nil
}

func socketAddress() string { return os.Getenv("PLUGIN_UNIX_SOCKET_DIR") + "/raw.sock" }

func (f *faulty) Info(ctx context.Context, in *pluginpb.InfoRequest) (*pluginpb.InfoResponse, error) {
	info, err := f.raw.Info(ctx, in)
	switch f.fault {
	case "has another version":
		info.Version = "9.9.9"
	case "lacks a capability":
		info.Capabilities = info.GetCapabilities()[1:]
	}
	return info, err
}

func (f *faulty) Attach(in *pluginpb.AttachRequest, stream grpc.ServerStreamingServer[pluginpb.AttachResponse]) error {
	f.mu.Lock()
	started, hosts := f.started, f.hosts
	f.mu.Unlock()
	switch f.fault {
	case "says it has started":
		return f.raw.Attach(in, liar{ServerStreamingServer: stream, started: true})
	case "forgets that it has started":
		return f.raw.Attach(in, liar{ServerStreamingServer: stream})
	case "tells the host late":
		if !started {
			return wait(stream.Context())
		}
	case "lets go of the host":
		return stream.Send(&pluginpb.AttachResponse{Started: started})
	case "takes one host":
		if hosts > 0 {
			return status.Error(codes.ResourceExhausted, "there is a host")
		}
	case "leaves with the first host":
		defer os.Exit(0)
	case "counts one host only", "counts on":
		defer f.abandonAfter(700 * time.Millisecond)
	}
	return f.raw.Attach(in, stream)
}

// liar sends what it likes.
type liar struct {
	grpc.ServerStreamingServer[pluginpb.AttachResponse]

	started bool
}

func (l liar) Send(*pluginpb.AttachResponse) error {
	return l.ServerStreamingServer.Send(&pluginpb.AttachResponse{Started: l.started})
}

// abandonAfter ends the process whatever hosts there are then.
func (f *faulty) abandonAfter(d time.Duration) { time.AfterFunc(d, func() { os.Exit(0) }) }

func wait(ctx context.Context) error { <-ctx.Done(); return nil }

func (f *faulty) Start(ctx context.Context, in *pluginpb.StartRequest) (*pluginpb.StartResponse, error) {
	bad := strings.Contains(string(in.GetSettings()), "bad")
	switch {
	case f.fault == "starts with any settings":
		in.Settings = nil
	case f.fault == "cannot start":
		return nil, status.Error(codes.FailedPrecondition, "no licence")
	case f.fault == "dies of bad settings" && bad:
		os.Exit(4)
	case f.fault == "has started in spite of an error":
		f.mu.Lock()
		f.started = true
		f.mu.Unlock()
	}
	return f.raw.Start(ctx, in)
}

func (f *faulty) Health(ctx context.Context, in *pluginpb.HealthRequest) (*pluginpb.HealthResponse, error) {
	switch f.fault {
	case "is not well after Start":
		return &pluginpb.HealthResponse{Problem: "the source is unreadable"}, nil
	case "is busy with its tasks":
		f.tasks.Lock()
		defer f.tasks.Unlock()
	case "logs before it answers":
		fmt.Fprintln(os.Stderr, "I was asked")
	}
	return f.raw.Health(ctx, in)
}

func (f *faulty) Execute(task *pluginpb.Task, stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	switch f.fault {
	case "begins anew":
		task.Cursor = ""
	case "has no cursors":
		return stream.Send(&pluginpb.Result{})
	case "takes any task":
		return nil
	case "has a code of its own":
		if task.GetCapability() == nobodys {
			return status.Error(codes.InvalidArgument, "what is that?")
		}
	case "fails":
		return status.Error(codes.Unknown, "no such table")
	case "hopes":
		if task.GetCapability() == "hopeless" {
			return status.Error(codes.Unknown, "try again")
		}
	case "yields little":
		if task.GetCapability() == "large" {
			return stream.Send(&pluginpb.Result{Payload: make([]byte, 1<<20)})
		}
	case "is busy with its tasks":
		f.tasks.RLock()
		defer f.tasks.RUnlock()
	case "does one task at a time":
		f.tasks.Lock()
		defer f.tasks.Unlock()
	case "dies of its log":
		if task.GetCapability() == "loud" {
			return logOrDie()
		}
	case "hoards results":
		return f.hoard(task, stream)
	case "goes on after a cancellation":
		for stream.Context().Err() == nil {
			if err := stream.Send(&pluginpb.Result{}); err != nil {
				break
			}
		}
		for spin := true; spin; {
			select {
			case <-f.stop:
				spin = false
			default:
			}
		}
	case "goes on after Stop", "is done when stopped", "breaks off when stopped":
		return f.endBadly(stream)
	}
	return f.raw.Execute(task, stream)
}

func (f *faulty) stopping() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

// logOrDie writes to a standard error that does not block, and takes it badly.
func logOrDie() error {
	if err := syscall.SetNonblock(2, true); err != nil {
		return err
	}
	for range 100_000 {
		if _, err := syscall.Write(2, []byte("hear me out\n")); err != nil {
			os.Exit(5)
		}
	}
	return nil
}

// hoard produces without regard to who takes it.
func (f *faulty) hoard(task *pluginpb.Task, stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	if task.GetCapability() != "count" {
		return f.raw.Execute(task, stream)
	}
	if err := stream.Send(&pluginpb.Result{}); err != nil {
		return err
	}
	for range 200 {
		piece := make([]byte, 1<<20)
		for i := range piece {
			piece[i] = 1 // touched, or it would take no memory
		}
		f.kept = append(f.kept, piece)
	}
	for _, piece := range f.kept {
		if err := stream.Send(&pluginpb.Result{Payload: piece}); err != nil {
			return err
		}
	}
	return nil
}

// endBadly yields results until Stop and then does not end with ABORTED.
func (f *faulty) endBadly(stream grpc.ServerStreamingServer[pluginpb.Result]) error {
	for !f.stopping() || f.fault == "goes on after Stop" {
		if err := stream.Send(&pluginpb.Result{}); err != nil {
			return err
		}
	}
	if f.fault == "breaks off when stopped" {
		os.Exit(0)
	}
	return nil
}

func (f *faulty) Stop(ctx context.Context, in *pluginpb.StopRequest) (*pluginpb.StopResponse, error) {
	if f.fault == "does not stop" {
		select {}
	}
	if f.fault == "works on after Stop" {
		return &pluginpb.StopResponse{}, nil
	}
	return f.raw.Stop(ctx, in)
}
