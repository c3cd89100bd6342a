package plugintest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// Sizes of the load.
const (
	callers    = 8
	calls      = 20
	concurrent = 4
	cancels    = 20
)

// nobodys is a capability that no plugin has.
const nobodys = "plugintest.no-such-capability"

func checkHealth(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	if s.Long.Capability == "" {
		tb.Log("checked without running tasks only; it needs Config.Long")
	} else {
		for i := range concurrent {
			r := h.execute(tb, s.Long)
			r.next(tb, fmt.Sprintf("the first result of task %d of %d at once", i+1, concurrent))
			if i%2 == 0 {
				continue // nobody takes its results
			}
			go func() {
				for {
					if _, err := r.stream.Recv(); err != nil {
						return
					}
				}
			}()
		}
	}
	var wg sync.WaitGroup
	failed := make(chan error, callers)
	for range callers {
		wg.Go(func() {
			for range calls {
				if err := h.health(tb); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		tb.Fatalf("while tasks run: %v", err)
	default:
	}
}

func checkCapability(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	n, err := h.execute(tb, plugin.Task{Capability: nobodys}).rest(tb, "though it cannot be done")
	mustBe(tb, "Execute of a capability that it does not have", err, codes.Unimplemented)
	if n > 0 {
		tb.Errorf("Execute of a capability that it does not have yielded %d results", n)
	}
	h.mustBeWell(tb, "after a task that it does not have")
}

func checkExecute(tb testing.TB, s *suite) {
	if s.Hopeless.Capability == "" {
		given(tb, s.Short, "Short or Config.Hopeless")
	}
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	if s.Short.Capability != "" {
		for range 2 {
			if _, err := h.execute(tb, s.Short).rest(tb, "though it is short"); err != nil {
				tb.Fatalf("Config.Short: want that it is done, found %v", err)
			}
		}
	}
	if s.Hopeless.Capability != "" {
		_, err := h.execute(tb, s.Hopeless).rest(tb, "though it is hopeless")
		mustBe(tb, "Config.Hopeless", err, codes.InvalidArgument)
	}
	h.mustBeWell(tb, "after its tasks")
}

func checkResume(tb testing.TB, s *suite) {
	given(tb, s.Long, "Long")
	if !s.Resumes {
		tb.Skip("not checked: it needs Config.Resumes")
	}
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	var cursors [3]string
	r := h.execute(tb, s.Long)
	for i := range cursors {
		if cursors[i] = r.next(tb, fmt.Sprintf("result %d", i+1)).GetCursor(); cursors[i] == "" {
			tb.Fatalf("result %d of a task that resumes has no cursor", i+1)
		}
	}
	r.cancel()
	task := s.Long
	task.Cursor = cursors[0]
	r = h.execute(tb, task)
	for i, want := range cursors[1:] {
		if got := r.next(tb, "a result after the cursor").GetCursor(); got != want {
			tb.Fatalf("begun with the cursor %q: want %q as the cursor of result %d, found %q", cursors[0], want, i+1, got)
		}
	}
}

func checkLargeMessages(tb testing.TB, s *suite) {
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	// What it cannot do it can yet receive: the code tells that it did.
	task := plugin.Task{Capability: nobodys, Payload: make([]byte, pluginpb.MaxMessageBytes)}
	task.Payload = task.Payload[:2*pluginpb.MaxMessageBytes-proto.Size(message(task))]
	_, err := h.execute(tb, task).rest(tb, "though it cannot be done")
	mustBe(tb, fmt.Sprintf("a task of %d bytes, of a capability that it does not have", proto.Size(message(task))), err, codes.Unimplemented)
	h.mustBeWell(tb, "after a task of that size")
	if s.Large.Capability == "" {
		tb.Log("not checked: results of that size; it needs Config.Large")
		return
	}
	r := h.execute(tb, s.Large)
	for largest := 0; largest < 15<<20; {
		largest = max(largest, proto.Size(r.next(tb, fmt.Sprintf("a result of 15 MiB (the largest so far has %d bytes)", largest))))
	}
}

// How long a process is watched at a time, how often it must be calm in a row,
// and how often it is looked at before the suite gives up.
const (
	settleTime  = 250 * time.Millisecond
	settleCalm  = 2
	settleTries = 40
)

// Bounds on a process that does next to nothing: in a look, and in all.
const (
	calmProcessor = 0.3 // of the time
	calmGrowth    = 1 << 20
	maxGrowth     = 64 << 20
)

// settles waits until what the process uses stays as it is, as far as the
// system tells.
func (p *subject) settles(tb testing.TB) error {
	processor, resident, err := usage(p.cmd.Process.Pid)
	begun, seen, calm := resident, time.Now(), 0
	for range settleTries {
		if errors.Is(err, errors.ErrUnsupported) {
			return nil
		}
		if err != nil {
			return err
		}
		look := time.NewTimer(settleTime)
		select {
		case <-look.C:
		case <-tb.Context().Done():
			look.Stop()
			return tb.Context().Err()
		}
		var used time.Duration
		var now int64
		used, now, err = usage(p.cmd.Process.Pid)
		busy := float64(used-processor) / float64(time.Since(seen))
		grown := now - resident
		processor, resident, seen = used, now, time.Now()
		calm++
		switch {
		case err != nil:
		case resident-begun > maxGrowth:
			return fmt.Errorf("it has taken %d MiB more memory", (resident-begun)>>20)
		case busy > calmProcessor || grown > calmGrowth:
			calm = 0
		case calm == settleCalm:
			return nil
		}
	}
	return fmt.Errorf("it is still at work after %s", settleTries*settleTime)
}

func checkBackPressure(tb testing.TB, s *suite) {
	given(tb, s.Long, "Long")
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	r := h.execute(tb, s.Long)
	r.next(tb, "the first result")
	if err := h.subject.settles(tb); err != nil {
		tb.Fatalf("nobody takes the results of a task: want that the plugin waits, found that %v", err)
	}
	h.mustBeWell(tb, "while nobody takes the results of a task")
	for range 3 {
		r.next(tb, "a result after nobody had taken any for a while")
	}
}

func checkCancel(tb testing.TB, s *suite) {
	given(tb, s.Long, "Long")
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	for i := range cancels {
		r := h.execute(tb, s.Long)
		r.next(tb, fmt.Sprintf("the first result of a task, after %d were cancelled,", i))
		r.cancel()
	}
	// The host hears nothing of how a cancelled call ends; what the process
	// does tells.
	if err := h.subject.settles(tb); err != nil {
		tb.Errorf("%d tasks were cancelled: want that they end, found that %v", cancels, err)
	}
	ctx, cancel := h.soon(tb)
	defer cancel()
	if _, err := h.rpc.Stop(ctx, &pluginpb.StopRequest{}); err != nil {
		tb.Errorf("Stop after %d tasks were cancelled: %v", cancels, err)
	}
}

// checkDeadline cannot use a common client, which ends the call itself.
func checkDeadline(tb testing.TB, s *suite) {
	given(tb, s.Long, "Long")
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	const deadline = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(tb.Context(), deadline+s.limits.answer)
	defer cancel()
	code, n, err := h.subject.executeBare(ctx, s.Long, deadline)
	switch {
	case ctx.Err() != nil:
		tb.Fatalf("a task with a deadline of %s has not ended %s after it", deadline, s.limits.answer)
	case err != nil:
		tb.Logf("the stream was reset at the deadline, after %d results: %v", n, err)
	case code == codes.OK:
		tb.Fatalf("at its deadline the task said that it was done: want %s", codes.DeadlineExceeded)
	}
	h.mustBeWell(tb, "after a deadline")
}

func (h *host) stop(tb testing.TB) error {
	ctx, cancel := h.soon(tb)
	defer cancel()
	_, err := h.rpc.Stop(ctx, &pluginpb.StopRequest{})
	return err
}

func checkStop(tb testing.TB, s *suite) {
	idle := s.launch(tb).connect(tb)
	idle.adopt(tb)
	if err := idle.stop(tb); err != nil {
		tb.Fatalf("Stop without tasks: %v", err)
	}
	if s.Long.Capability == "" {
		tb.Log("not checked: how running tasks end; it needs Config.Long")
		return
	}
	h := s.launch(tb).connect(tb)
	h.adopt(tb)
	taken, left := h.execute(tb, s.Long), h.execute(tb, s.Long)
	taken.next(tb, "the first result")
	left.next(tb, "the first result of a second task")
	answered := make(chan error, 1)
	go func() { answered <- h.stop(tb) }()
	_, err := taken.rest(tb, "after Stop was called")
	mustBe(tb, "a task that ran when Stop was called", err, codes.Aborted)
	// The other task may be in the middle of a result that nobody took; what
	// was produced comes first.
	_, err = left.rest(tb, "after Stop was called")
	mustBe(tb, "a task whose results nobody took when Stop was called", err, codes.Aborted)
	if err := <-answered; err != nil {
		tb.Fatalf("Stop with running tasks: %v", err)
	}
	n, err := h.execute(tb, s.Long).rest(tb, "though it came after Stop")
	if status.Code(err) == codes.OK || n > 0 {
		tb.Errorf("a task after Stop: want an error, found %d results and %v", n, err)
	}
}
