package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
)

// bench is an agent, and an operator who reaches etcd whatever happens to the
// agent's connection.
type bench struct {
	testing.TB
	*process
	client  *clientv3.Client
	writer  *writer
	patient context.Context
}

// place says where an agent lives. Its zero value is the default.
type place struct {
	etcd agent.EtcdConfig // how the agent reaches it; default like the operator
	ttl  time.Duration    // default 20 s: the lease outlives the fault
	beat time.Duration    // default 0.5 s
}

// operator is the way to etcd that no fault cuts.
func newBench(t *testing.T, operator etcdkv.ClientConfig, p place) *bench {
	t.Helper()
	client, err := etcdkv.Dial(operator)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	if p.etcd.Endpoints == nil {
		p.etcd.Endpoints = operator.Endpoints
	}
	if p.ttl == 0 {
		p.ttl = 20 * time.Second
	}
	if p.beat == 0 {
		p.beat = 500 * time.Millisecond
	}
	b := &bench{TB: t, client: client, patient: t.Context()}
	b.writer = newWriter(t, client)
	b.writer.writeAll()
	b.process = setup{ID: "a1", Etcd: p.etcd, TTL: p.ttl, Beat: p.beat}.start(t)
	b.serves()
	b.right()
	return b
}

// ctx bounds one call.
func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(b.Context(), waittest.Patience)
	b.Cleanup(cancel)
	return ctx
}

const (
	registryKey = "/agents/registry/a1"
	statusKey   = "/agents/status/a1"
)

// isRight says what is not as it should be; nil = nothing.
func (b *bench) isRight() error {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
	defer cancel()
	s, err := b.ask()
	if err != nil {
		return err
	}
	if code, body, err := b.get("/readyz"); err != nil || code != 200 {
		return fmt.Errorf("readyz: %d %s %w", code, body, err)
	}
	if err := b.registered(ctx); err != nil {
		return err
	}
	return b.writer.runs(ctx, s)
}

// registered says whether etcd shows the agent as it is: registration and
// status, both under a lease that lives.
func (b *bench) registered(ctx context.Context) error {
	r, err := b.client.Get(ctx, registryKey)
	if err != nil || r.Count == 0 {
		return fmt.Errorf("no registration: %w", err)
	}
	var reg agent.Registration
	if err := json.Unmarshal(r.Kvs[0].Value, &reg); err != nil {
		return err
	}
	if reg.PID != b.cmd.Process.Pid || reg.State.State != agent.Running {
		return fmt.Errorf("registered: %s", r.Kvs[0].Value)
	}
	lease := r.Kvs[0].Lease
	status, err := b.client.Get(ctx, statusKey)
	if err != nil || status.Count == 0 || status.Kvs[0].Lease != lease {
		return fmt.Errorf("no status under the lease of the registration: %v %w", status, err)
	}
	ttl, err := b.client.TimeToLive(ctx, clientv3.LeaseID(lease))
	if err != nil || ttl.TTL <= 0 {
		return fmt.Errorf("the registration's lease %x: %v %w", lease, ttl, err)
	}
	return nil
}

// right waits until everything is.
func (b *bench) right() {
	b.Helper()
	waittest.Nil(b, "the agent is right", b.isRight)
}

// lease is what the registration hangs on; 0 = there is none.
func (b *bench) lease() clientv3.LeaseID {
	b.Helper()
	r, err := b.client.Get(b.ctx(), registryKey)
	if err != nil {
		b.Fatal(err)
	}
	if r.Count == 0 {
		return 0
	}
	return clientv3.LeaseID(r.Kvs[0].Lease)
}

// obeys has the agent answer an order.
func (b *bench) obeys() {
	b.Helper()
	dir, err := agent.OpenDirectory(b.Etcd)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = dir.Close() }()
	for _, action := range []upgrade.Action{upgrade.ActionHold, upgrade.ActionUnhold} {
		order, err := dir.Order(b.ctx(), b.ID, upgrade.Request{Action: action, By: "test", Reason: "is it listening?"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := dir.Follow(b.ctx(), order, b.ID, func(upgrade.Status) {}); err != nil {
			b.Fatalf("order to %s: %v", action, err)
		}
	}
}

// fault is something that breaks and is mended again.
type fault struct {
	*bench
	name   string
	began  time.Time
	mended time.Time
	stop   func() int
	lease0 clientv3.LeaseID
	logged int // bytes of the agent's log before

	mu       sync.Mutex
	said     []string // what the agent began to complain of, in turn, and when
	known    map[string]bool
	answers  int
	silent   []string // what was wrong when the agent did not answer
	asleep   bool
	watching context.CancelFunc
	watched  sync.WaitGroup
}

// breaks begins a fault. Until the agent is right again, its configuration is
// being changed and it is asked how it is.
func (b *bench) breaks(name string, act func()) *fault {
	b.Helper()
	f := &fault{bench: b, name: name, lease0: b.lease(), logged: len(b.process.said()), known: map[string]bool{}}
	ctx, cancel := context.WithCancel(b.Context())
	f.watching = cancel
	b.Cleanup(func() { cancel(); f.watched.Wait() })
	f.stop = b.writer.begin()
	f.writes()
	f.began = time.Now()
	f.watched.Go(func() { f.listen(ctx) })
	act()
	return f
}

// writes waits until a few more changes have been written.
func (f *fault) writes() {
	f.Helper()
	enough := f.writer.confirmed() + 10
	waittest.Until(f, f.name+": the configuration is being changed", func() bool { return f.writer.confirmed() >= enough })
}

// listen asks the agent all the time how it is.
func (f *fault) listen(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if f.isAsleep() {
			continue
		}
		err := f.live()
		s, asked := f.ask()
		if !f.isAsleep() { // nor has it fallen asleep meanwhile
			f.note(errors.Join(err, asked), complaints(s))
		}
	}
}

func (f *fault) note(err error, complaints map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.silent = append(f.silent, err.Error())
	} else {
		f.answers++
	}
	for _, of := range slices.Sorted(maps.Keys(complaints)) {
		if !f.known[of] {
			f.known[of] = true
			f.said = append(f.said, fmt.Sprintf("%s: %q after %.1f s", of, complaints[of], time.Since(f.began).Seconds()))
		}
	}
}

// complaints is what the agent says about etcd, by whose word it is: checks
// that fail, the latency of the heartbeat, the configuration's status.
func complaints(s state) map[string]string {
	all := map[string]string{}
	for _, c := range s.Health.Checks {
		if !c.OK {
			all[c.Name] = c.Error
		}
	}
	for _, i := range s.Health.Indicators {
		if i.Name == health.HeartbeatLatency && i.Value > i.Threshold {
			all[i.Name] = fmt.Sprint(i.Value)
		}
	}
	if s.Config.Error != "" {
		all["configuration"] = s.Config.Error
	}
	return all
}

// says waits until the agent complains, by the given word, while the fault
// lasts.
func (f *fault) says(of, words string) {
	f.Helper()
	waittest.Nil(f, f.name+": the agent says what is wrong", func() error {
		s, err := f.ask()
		if err != nil {
			return err
		}
		all := complaints(s)
		if text, found := all[of]; !found || !strings.Contains(text, words) {
			return fmt.Errorf("it says %q, want %q of %s", all, words, of)
		}
		f.note(nil, all)
		return nil
	})
}

// sleeps says that the agent is not expected to answer, or is again.
func (f *fault) sleeps(yes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asleep = yes
}

func (f *fault) isAsleep() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asleep
}

// verdict is what a fault is expected to leave.
type verdict struct {
	// within bounds the time until everything is right.
	within time.Duration
	// sameLease says that the registration must have stayed the whole time.
	sameLease bool
}

// mends ends the fault, and checks and prints what came of it.
func (f *fault) mends(v verdict, act func()) {
	f.Helper()
	act()
	if f.mended.IsZero() {
		f.mended = time.Now()
	}
	changes := f.stop()
	f.isRightWithin(v.within)
	// Nothing was written since the fault ended: what arrived until now did so
	// without another change to push it.
	s, err := f.ask()
	if err != nil {
		f.Fatal(err)
	}
	lost := f.writer.lost(s.Values)
	f.writer.writeAll() // and what is written from now on arrives, too
	f.isRightWithin(v.within)
	took := time.Since(f.mended)
	f.obeys()
	heard := time.Since(f.mended)
	f.watching()
	f.watched.Wait()
	f.judge(v, s, took, heard, changes, lost)
}

// quiet ends the changes of the configuration, so that the agent has no reason
// to write or to look.
func (f *fault) quiet() {
	f.Helper()
	changes := f.stop()
	f.stop = func() int { return changes }
	f.right()
	f.began = time.Now()
}

// mendsItself is for faults that are one act.
func (f *fault) mendsItself(v verdict) {
	f.Helper()
	f.mended = time.Now()
	f.mends(v, func() {})
}

func (f *fault) isRightWithin(limit time.Duration) {
	f.Helper()
	var err error
	waittest.Within(f, limit+waittest.Patience, f.name+": the agent is right again", func() bool {
		if err = f.isRight(); err != nil && time.Since(f.mended) > limit {
			f.Fatalf("%s: not right %v after the fault has ended: %v", f.name, limit, err)
		}
		return err == nil
	})
}

func (f *fault) judge(v verdict, s state, took, heard time.Duration, changes, lost int) {
	f.Helper()
	if heard > v.within {
		f.Errorf("%s: an order was answered only %v after the fault had ended, want %v", f.name, heard, v.within)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if lost > 0 {
		f.Errorf("%s: %d of %d changes are not in what the agent runs: %v", f.name, lost, changes, s.Values)
	}
	if len(s.Odd) > 0 {
		f.Errorf("%s: came into force twice: %q", f.name, s.Odd)
	}
	if len(f.silent) > 0 {
		f.Errorf("%s: the agent was not live and serving, %d times of %d: %q", f.name, len(f.silent), len(f.silent)+f.answers, f.silent[0])
	}
	now := f.lease()
	if v.sameLease && now != f.lease0 {
		f.Errorf("%s: the lease was %x and is %x: the registration was lost", f.name, f.lease0, now)
	}
	said := "said nothing"
	if len(f.said) > 0 {
		said = strings.Join(f.said, ", ")
	} else if warning := f.warning(); warning != "" {
		said = fmt.Sprintf("logged %q", warning)
	}
	lease := "same lease"
	if now != f.lease0 {
		lease = "new lease"
	}
	f.report(fmt.Sprintf("FAULT %s, %.1f s long: %s, right again %.1f s after, orders answered after %.1f s, %s, %d of %d changes lost, answered %d of %d times",
		f.name, f.mended.Sub(f.began).Seconds(), said, took.Seconds(), heard.Seconds(), lease, lost, changes, f.answers, f.answers+len(f.silent)))
}

// warning is the first one in the agent's log since the fault began.
func (f *fault) warning() string {
	for line := range strings.Lines(f.process.said()[f.logged:]) {
		if _, text, ok := strings.Cut(line, "level=WARN msg="); ok {
			return strings.TrimSpace(text)
		}
	}
	return ""
}

// report prints a line, and adds it to the file that is asked for.
func (b *bench) report(line string) {
	b.Helper()
	report(b, line)
}

func report(tb testing.TB, line string) {
	tb.Helper()
	tb.Log(line)
	path := os.Getenv("PERENNIAL_FAULTS_REPORT")
	if path == "" {
		return
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.WriteString(line + "\n"); err != nil {
		tb.Fatal(err)
	}
}

// logs waits until the agent has logged words since the fault began.
func (f *fault) logs(words string) {
	f.Helper()
	waittest.Until(f, fmt.Sprintf("%s: the agent logs %q", f.name, words), func() bool {
		return strings.Contains(f.process.said()[f.logged:], words)
	})
}

// arrives waits until a change that is written from now on is in force, while
// the fault lasts.
func (f *fault) arrives() {
	f.Helper()
	waittest.Nil(f, f.name+": the configuration is being changed", func() error { return f.writer.write(f.Context(), "global") })
	f.writer.mu.Lock()
	want := f.writer.acked["global"]
	f.writer.mu.Unlock()
	waittest.Nil(f, f.name+": changes arrive", func() error {
		s, err := f.ask()
		if err == nil && s.Values[value("global")] < want {
			err = fmt.Errorf("the agent runs %v", s.Values)
		}
		return err
	})
}
