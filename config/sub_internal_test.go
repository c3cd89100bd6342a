package config

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/perennial-go/perennial/internal/waittest"
)

type parts struct {
	A, B, C int
	Key     Secret
}

// bench is a store without etcd, whose subscribers note what they are told.
type bench struct {
	*Store[parts]
	t     *testing.T
	mu    sync.Mutex
	calls []string
}

func newBench(t *testing.T) *bench {
	s, err := New(Config[parts]{})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{Store: s, t: t}
}

func (x *bench) note(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.calls = append(x.calls, fmt.Sprintf(format, args...))
}

// sub follows one field, and answers as answer does.
func (x *bench) sub(name string, part func(*parts) int, answer func(ctx context.Context, old, new int) error) (stop func()) {
	x.t.Helper()
	stop, err := Sub(x.Store, name, part, func(ctx context.Context, old, new int) error {
		x.note("%s %d>%d", name, old, new)
		if answer == nil {
			return nil
		}
		return answer(ctx, old, new)
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return stop
}

func a(p *parts) int { return p.A }
func b(p *parts) int { return p.B }
func c(p *parts) int { return p.C }

// bring brings values into force, or returns why not.
func (x *bench) bring(ctx context.Context, text string) error {
	docs := []document{{Key: "k", Revision: 1, Data: []byte(text)}}
	next, bad := x.build(docs, nil)
	if bad == nil {
		bad = x.put(ctx, next, docs, OriginEtcd, true, func() {})
	}
	if bad != nil {
		return bad
	}
	return nil
}

func (x *bench) told(want ...string) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	if !reflect.DeepEqual(x.calls, want) {
		x.t.Errorf("calls\n %q\nwant\n %q", x.calls, want)
	}
	x.calls = nil
}

func (x *bench) must(document string) {
	x.t.Helper()
	if err := x.bring(x.t.Context(), document); err != nil {
		x.t.Fatal(err)
	}
}

// TestSubscribersAreToldInOrderAndOnlyOfTheirPart: a connection that is made
// anew on each unrelated change is an outage.
func TestSubscribersAreToldInOrderAndOnlyOfTheirPart(t *testing.T) {
	x := newBench(t)
	x.sub("one", a, nil)
	x.sub("two", b, func(_ context.Context, old, _ int) error {
		if n := x.Snapshot().Value.B; n != old {
			t.Errorf("%d is visible before all agreed", n)
		}
		return nil
	})
	x.told()
	x.must("a: 1")
	x.told("one 0>1", "two 0>0")
	x.must("{a: 1, b: 2}")
	x.told("two 0>2")
	x.sub("late", a, nil)
	x.told("late 0>1")
	stop := x.sub("gone", a, nil)
	stop()
	x.must("{a: 3, b: 4}")
	x.told("gone 0>1", "one 1>3", "two 2>4", "late 1>3")
	if v := x.Snapshot().Value; v.A != 3 || v.B != 4 {
		t.Errorf("in force: %+v", v)
	}
}

// TestARefusalTakesEverybodyBack: half of a program on one configuration and
// half on another is what nobody has tested.
func TestARefusalTakesEverybodyBack(t *testing.T) {
	for name, answer := range map[string]func() error{
		"error": func() error { return errors.New("port is taken, says hunter22") },
		"panic": func() error { panic("hunter22") },
	} {
		t.Run(name, func(t *testing.T) {
			x := newBench(t)
			bad := func(_ context.Context, _, new int) error {
				if new == 9 {
					return answer()
				}
				return nil
			}
			x.sub("one", a, nil)
			x.sub("two", b, bad)
			x.sub("three", c, nil)
			x.must("{a: 1, b: 1, c: 1, key: hunter22}")
			x.told("one 0>1", "two 0>1", "three 0>1")
			err := x.bring(t.Context(), "{a: 2, b: 9, c: 2, key: hunter22}")
			want := []string{"one 1>2", "two 1>9", "one 2>1"}
			if name == "panic" {
				want = []string{"one 1>2", "two 1>9", "two 9>1", "one 2>1"}
			}
			x.told(want...)
			f, ok := errors.AsType[*Failure](err)
			if !ok || f.Subscriber != `subscriber "two"` || f.Key != "k" || strings.Contains(f.Error(), "hunter22") {
				t.Errorf("want a failure by subscriber two without the secret, got %v", err)
			}
			if v := x.Snapshot().Value; v.A != 1 || v.B != 1 {
				t.Errorf("in force: %+v", v)
			}
			x.must("{a: 3, b: 1, c: 3}")
			x.told("one 1>3", "three 1>3")
		})
	}
}

// TestAFirstConfigurationThatIsRefusedLeavesNobodyWithIt: what is told next,
// from the last-known-good file, is a first one again.
func TestAFirstConfigurationThatIsRefusedLeavesNobodyWithIt(t *testing.T) {
	x := newBench(t)
	refuse := true
	x.sub("one", a, nil)
	x.sub("two", b, func(context.Context, int, int) error {
		if refuse {
			return errors.New("no")
		}
		return nil
	})
	if err := x.bring(t.Context(), "{a: 1}"); err == nil {
		t.Fatal("accepted")
	}
	if o := x.Snapshot().Origin; o != OriginDefault {
		t.Errorf("origin %s", o)
	}
	refuse = false
	x.told("one 0>1", "two 0>0")
	x.must("{}")
	x.told("one 0>0", "two 0>0")
}

// TestAChangeWhileSubCallsIsToldAfterwards, and only if it is one: otherwise a
// component that starts during a change stays on the former configuration.
func TestAChangeWhileSubCallsIsToldAfterwards(t *testing.T) {
	x := newBench(t)
	x.must("{a: 1}")
	began, goOn := make(chan struct{}), make(chan struct{})
	starting := func(name string, part func(*parts) int) {
		first := true
		x.sub(name, part, func(context.Context, int, int) error {
			if first {
				first = false
				began <- struct{}{}
				<-goOn
			}
			return nil
		})
	}
	var subs sync.WaitGroup
	subs.Go(func() { starting("same", a) })
	<-began
	subs.Go(func() { starting("differs", b) })
	<-began
	changed := make(chan error, 1)
	go func() { changed <- x.bring(t.Context(), "{a: 1, b: 2}") }()
	waittest.Until(t, "the change has come to them", func() bool {
		x.subs.mu.Lock()
		defer x.subs.mu.Unlock()
		return x.subs.list[0].busy.Load()
	})
	x.told("same 0>1", "differs 0>0")
	close(goOn)
	if err := waittest.Next(t, "the change ends", changed); err != nil {
		t.Error(err)
	}
	subs.Wait()
	x.told("differs 0>2")
}

// TestAHungSubscriberHoldsNobodyUp, and what it does when it is late is taken
// back.
func TestAHungSubscriberHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t)
		wake := make(chan struct{})
		x.sub("one", a, nil)
		x.sub("two", b, func(ctx context.Context, _, new int) error {
			if new != 9 {
				return nil
			}
			<-ctx.Done()
			x.note("two is told to stop")
			<-wake
			return nil
		})
		x.must("{a: 1, b: 1}")
		began := time.Now()
		err := x.bring(t.Context(), "{a: 2, b: 9}")
		if took := time.Since(began); took != DefaultApplyTimeout+lateGrace {
			t.Errorf("given up after %s", took)
		}
		if err == nil || !strings.Contains(err.Error(), `subscriber "two": it has not returned`) {
			t.Errorf("got %v", err)
		}
		x.told("one 0>1", "two 0>1", "one 1>2", "two 1>9", "two is told to stop", "one 2>1")
		if err := x.bring(t.Context(), "{a: 2, b: 3}"); err == nil || !strings.Contains(err.Error(), "has not returned from an earlier change") {
			t.Errorf("a second call of a subscriber that hangs: %v", err)
		}
		x.told()               // nobody was called for nothing
		x.must("{a: 3, b: 1}") // not its part
		x.told("one 1>3")
		close(wake)
		synctest.Wait()
		x.told("two 9>1")
		x.must("{a: 3, b: 4}")
		x.told("two 1>4")
	})
}

// TestASubscriberThatNeverReturnsDoesNotKeepTheProgram from ending.
func TestASubscriberThatNeverReturnsDoesNotKeepTheProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t)
		wake := make(chan struct{})
		x.sub("one", a, nil)
		x.sub("two", b, func(context.Context, int, int) error { <-wake; return nil })
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, stop)
		began := time.Now()
		if err := x.bring(ctx, "{a: 1}"); err == nil || !strings.Contains(err.Error(), "context canceled") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took != 2*time.Second+lateGrace {
			t.Errorf("ended after %s", took)
		}
		x.told("one 0>1", "two 0>0")
		close(wake)
		synctest.Wait()
		x.told()
	})
}

// TestARollbackThatFailsIsTold: an operator must know that a process is in a
// state which no configuration describes.
func TestARollbackThatFailsIsTold(t *testing.T) {
	x := newBench(t)
	x.sub("one", a, func(_ context.Context, old, _ int) error {
		if old == 2 {
			return errors.New("stuck")
		}
		return nil
	})
	x.sub("two", b, func(_ context.Context, _, new int) error {
		if new == 9 {
			return errors.New("no")
		}
		return nil
	})
	x.must("{a: 1}")
	err := x.bring(t.Context(), "{a: 2, b: 9}")
	if err == nil || !strings.Contains(err.Error(), `no; and subscriber "one" did not go back to the former configuration: stuck`) {
		t.Errorf("got %v", err)
	}
}

func TestSubRefusesWhatCannotWork(t *testing.T) {
	x := newBench(t)
	if _, err := Sub(x.Store, "", a, func(context.Context, int, int) error { return nil }); err == nil {
		t.Error("no name: accepted")
	}
	if _, err := Sub(x.Store, "x", a, nil); err == nil {
		t.Error("nothing to call: accepted")
	}
	x.must("{a: 1}")
	if _, err := Sub(x.Store, "x", a, func(context.Context, int, int) error { return errors.New("cannot") }); err == nil || !strings.Contains(err.Error(), "cannot") {
		t.Errorf("got %v", err)
	}
	x.must("{a: 2}")
	if _, err := Sub(x.Store, "an interface that is nil", func(*parts) error { return nil }, func(context.Context, error, error) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestReadingTheConfigurationAllocatesNothing: it is read for each request.
func TestReadingTheConfigurationAllocatesNothing(t *testing.T) {
	x := newBench(t)
	x.must("a: 1")
	sum := 0
	if n := testing.AllocsPerRun(1000, func() { sum += x.Snapshot().Value.A }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if sum == 0 {
		t.Error("nothing was read")
	}
}

func BenchmarkSnapshot(b *testing.B) {
	big, err := New(Config[large]{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		n := 0
		for pb.Next() {
			n += len(big.Snapshot().Value.Name)
		}
		if n != 0 {
			b.Error("read what nobody wrote")
		}
	})
}

// large is what nobody wants to copy.
type large struct {
	Name  string
	Table [512]int
}
