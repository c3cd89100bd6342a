package agent

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// A fleet that has staged a release switches at once: who waits there a while, so
// that not all ask the repository together, is late for nothing.
func TestStagedReleaseIsThereForAPlan(t *testing.T) {
	t.Parallel()
	pin := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	wanted := upgrade.Ref{Version: pin.Version, Manifest: pin.Digest}
	other := upgrade.Ref{Version: pin.Version, Manifest: "sha256:" + strings.Repeat("cd", 32)}
	order := rollout.Order{Action: rollout.ActSwitch, Target: rollout.Target{Release: pin}}
	for name, c := range map[string]struct {
		status upgrade.Status
		there  bool
	}{
		"nothing":            {upgrade.Status{}, false},
		"staged":             {upgrade.Status{Staged: &wanted}, true},
		"another is staged":  {upgrade.Status{Staged: &other}, false},
		"retained":           {upgrade.Status{Retained: []upgrade.Ref{other, wanted}}, true},
		"what runs is other": {upgrade.Status{Running: other}, false},
	} {
		if got := there(order, c.status); got != c.there {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What was taken back would count as a failure of the release, or never be begun
// again.
func TestWhatWasNotBegunIsAsIfItHadNotBeenAsked(t *testing.T) {
	t.Parallel()
	u, err := upgrade.New(upgrade.Config{StateDir: t.TempDir(), Name: "demo", Version: "1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{upgrader: u}
	a.orders = &orders{agent: a}
	h := releaseHost{Agent: a}
	pin := release.Pin{Version: "1.1.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	order := rollout.Order{Request: "r1.1", Action: rollout.ActSwitch, Target: rollout.Target{Release: pin}, GiveUp: time.Minute}
	h.begin(order)
	if s := h.standing(order); s.State != rollout.ReportStarted {
		t.Errorf("in line: %+v", s)
	}
	h.retract("r1.0")
	if s := h.standing(order); s.State != rollout.ReportStarted {
		t.Errorf("another was taken back: %+v", s)
	}
	h.retract(order.Request)
	if s := h.standing(order); s.State != "" {
		t.Errorf("taken back: %+v", s)
	}
	failed := upgrade.Status{Attempt: upgrade.Attempt{OrderID: order.Request, State: upgrade.Failed, Reason: "no"}}
	if s := h.stands(order, failed); s.State != rollout.ReportRefused {
		t.Errorf("failed: %+v", s)
	}
	failed.Unbegun = upgrade.UnbegunStopped
	if s := h.stands(order, failed); s.State != "" {
		t.Errorf("stopped before anything had begun: %+v", s)
	}
	h.begin(order)
	if s := h.stands(order, failed); s.State != rollout.ReportStarted {
		t.Errorf("begun again: %+v", s)
	}
}

// A document that comes into force after the brake was pulled is what the brake was
// pulled for.
func TestDocumentThatIsStillReadIsTakenBackAndOneThatIsLaidIsNot(t *testing.T) {
	t.Parallel()
	h := &configHost{}
	order := rollout.Order{Request: "r1.1"}
	begun := func() context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		h.order, h.stand, h.end, h.lays = order, rollout.Standing{State: rollout.ReportStarted}, cancel, false
		return ctx
	}
	reading := begun()
	h.retract("r1.0")
	if reading.Err() != nil {
		t.Error("another was taken back")
	}
	h.retract(order.Request)
	first := attempt{Order: order}
	if reading.Err() == nil || h.changes(first) {
		t.Error("it is laid over though it was taken back")
	}
	laying := begun()
	again := attempt{order, make(chan struct{})}
	h.ended = again.ended
	if h.changes(first) || !h.replaced(first) {
		t.Error("the one that was taken back lays it over, or puts it back, for the one that was begun again")
	}
	if !h.changes(again) {
		t.Error("it is not laid over")
	}
	if h.retract(order.Request); laying.Err() != nil || h.order != order {
		t.Error("what is in force was taken back by half")
	}
}

// TestDocumentThatIsBegunAgainIsNotFailedByTheOneThatWasTakenBack: frozen and thawed at
// once, a fleet would revert a good document.
func TestDocumentThatIsBegunAgainIsNotFailedByTheOneThatWasTakenBack(t *testing.T) {
	t.Parallel()
	h := newOverlayRig(t)
	order := documentOrder("r1", "a: 1\n")
	former := make(chan struct{})
	h.ended = former // what an order before it is at
	h.begin(order)
	first := h.ended
	h.retract(order.Request)
	h.begin(order)
	close(former)
	waittest.Next(t, "the one that was taken back has ended", first)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.order != order || h.stand.State != rollout.ReportStarted {
		t.Errorf("the one that was begun again: %+v", h.stand)
	}
}

// TestOverlayIsReadAgainWhateverEndsWhileItSettles: an entry without its document would
// have the next process refuse those of all scopes.
func TestOverlayIsReadAgainWhateverEndsWhileItSettles(t *testing.T) {
	t.Parallel()
	h := newOverlayRig(t)
	laid := overlaid{Rollout: "r1", Revision: 1, Data: []byte("a: 1\n")}
	h.set("group/web", &overlaid{Rollout: "r2", Revision: 1, Data: []byte("b: 1\n"), Yields: true})
	if err := h.overlay.Lay("group/web", []byte("b: 1\n"), 1); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for _, do := range []func(){
		func() { h.set("global", &laid) },
		func() { h.set("global", nil) },
		func() { h.settle(laid.Rollout) },
		h.tidy,
		func() { h.noteOver("global") },
	} {
		all.Go(func() {
			for range 300 {
				do()
				if f, err := readOverlay(h.path()); err != nil || len(f.Documents) == 0 {
					t.Errorf("%+v, %v", f, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestDocumentThatAKilledProcessHasLaidIsUnderWay: it is about to come into force, and
// would be declined as one that had not begun.
func TestDocumentThatAKilledProcessHasLaidIsUnderWay(t *testing.T) {
	t.Parallel()
	h := newOverlayRig(t)
	h.set("global", &overlaid{Rollout: "r1", Revision: 1, Data: []byte("a: 1\n")})
	next := newConfigHost(h.Agent)
	next.recall()
	for document, want := range map[string]rollout.ReportState{"a: 1\n": rollout.ReportStarted, "a: 2\n": ""} {
		if s := next.standing(documentOrder("r1", document)); s.State != want || s.Runs {
			t.Errorf("%q: %+v, want %q", document, s, want)
		}
	}
}

// newOverlayRig is what lays documents over of an agent that never reaches etcd.
func newOverlayRig(t *testing.T) *configHost {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	a := &Agent{cfg: Config{Settings: struct{ Settings }{}, StateDir: t.TempDir()}, log: slog.New(slog.DiscardHandler)}
	a.presence, a.following = &presence{Agent: a, client: client}, &following{Agent: a}
	h := newConfigHost(a)
	ctx, cancel := context.WithCancel(t.Context())
	h.begun(ctx)
	t.Cleanup(func() {
		cancel()
		h.tasks.Wait()
		_ = client.Close()
	})
	return h
}

func documentOrder(id, document string) rollout.Order {
	return rollout.Order{
		Rollout: id, Request: id + ".1", Action: rollout.ActSwitch, GiveUp: time.Minute, Document: "/agents/rollout-document/default/x",
		Target: rollout.Target{Config: &rollout.ConfigTarget{Scope: "global", Digest: documentDigest([]byte(document))}},
	}
}
