package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Drain says how a server that is no longer wanted lets go of its clients.
// The zero value is the default.
type Drain struct {
	// Tail is how long a server goes on answering after it has stopped
	// accepting, so that requests that are on their way still get their
	// answer; default 300 ms. It ends early with the last connection.
	// http.Server.Shutdown alone drops them (golang/go#75591).
	Tail time.Duration
	// Idle is how much longer connections without a request are kept, so
	// that the next request of a client that pauses is answered with
	// "Connection: close" instead of a reset; default 5 s. It ends early
	// with the last connection.
	Idle time.Duration
	// Streams is how long hijacked connections (WebSockets) and gRPC streams
	// may go on after their handlers were told through Draining; default
	// 10 s, counted from the beginning of the drain. Then they are closed.
	// Answers that a handler streams over HTTP have until Timeout.
	Streams time.Duration
	// Timeout bounds the whole drain; default 30 s. What is still open
	// then is closed, which takes two seconds more at most.
	Timeout time.Duration
}

// closeGrace bounds how long a drain waits, at its end, for what it closes:
// closing a TLS connection whose client never reads takes 5 s.
const closeGrace = time.Second

// WithDefaults returns d with every duration set.
func (d Drain) WithDefaults() Drain {
	setDefault(&d.Tail, 300*time.Millisecond)
	setDefault(&d.Idle, 5*time.Second)
	setDefault(&d.Streams, 10*time.Second)
	setDefault(&d.Timeout, 30*time.Second)
	return d
}

// ErrCutOff is wrapped in what the Drain methods return if clients had to be
// cut off; the message says how many of what.
var ErrCutOff = errors.New("drain: had to cut off")

// cut is one kind of thing that a drain closed.
type cut struct {
	n    int
	what string // in the singular
}

// cutOff is the error of a drain that closed what is in cuts; nil if that is
// nothing. ctx is the drain's, its end the reason of the cuts if it has ended.
func cutOff(ctx context.Context, cuts ...cut) error {
	var list []string
	for _, c := range cuts {
		switch {
		case c.n == 1:
			list = append(list, "1 "+c.what)
		case c.n > 1:
			list = append(list, fmt.Sprintf("%d %ss", c.n, c.what))
		}
	}
	if len(list) == 0 {
		return nil
	}
	err := fmt.Errorf("%w %s", ErrCutOff, strings.Join(list, ", "))
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", err, ctx.Err())
	}
	return err
}

type drainingKey struct{}

// Draining returns a channel that is closed when the server of the request,
// or of the gRPC call, with this context begins to drain. A handler that goes
// on for long (a WebSocket, server-sent events, a stream) should then say
// goodbye and end: its client comes back to whoever serves next. The channel
// is nil, and so never closed, if ctx is of no such server. The context of
// an HTTP request has it with an HTTPServer, that of a gRPC call if the
// server was made with agent.Agent.GRPCOptions or calls GRPCServer.Call.
func Draining(ctx context.Context) <-chan struct{} {
	told, _ := ctx.Value(drainingKey{}).(<-chan struct{})
	return told
}

// notice tells everybody once that a server drains.
type notice struct {
	once sync.Once
	ch   chan struct{}
}

func newNotice() *notice { return &notice{ch: make(chan struct{})} }

func (n *notice) give() { n.once.Do(func() { close(n.ch) }) }

func (n *notice) given() bool {
	select {
	case <-n.ch:
		return true
	default:
		return false
	}
}

// in returns ctx with n for Draining.
func (n *notice) in(ctx context.Context) context.Context {
	var told <-chan struct{} = n.ch
	return context.WithValue(ctx, drainingKey{}, told)
}

// tally counts what is open. The zero value counts nothing.
type tally struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed while there is nothing; nil before the first
}

func (t *tally) add(delta int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	was := t.n
	t.n += delta
	switch {
	case was == 0 && t.n != 0:
		t.none = make(chan struct{})
	case was != 0 && t.n == 0:
		close(t.none)
	}
}

func (t *tally) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// zero returns a channel that is closed when nothing is open.
func (t *tally) zero() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.none == nil {
		t.none = make(chan struct{})
		close(t.none)
	}
	return t.none
}

// wait returns after d, at the end of ctx, or when done is closed.
func wait(ctx context.Context, d time.Duration, done <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-done:
	}
}

// within calls the functions, each on its own, and waits for their end, but
// no longer than d.
func within(d time.Duration, calls ...func()) {
	var all sync.WaitGroup
	for _, f := range calls {
		all.Go(f)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	wait(context.Background(), d, done)
}
