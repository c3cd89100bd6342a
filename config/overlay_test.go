package config_test

import (
	"crypto/sha256"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

func digest(document string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(document))) }

// overlaid waits until the port and what is told of the scope are as wanted.
func (r *rig) overlaid(t *testing.T, what string, port uint16, want config.OverlayStanding) {
	t.Helper()
	waittest.Nil(t, what, func() error {
		s := r.src.Overlay.Standing("group/web")
		failed := s.Failure != nil
		if got := r.Snapshot().Value.Server.Port; got != port || s.Laid != want.Laid || s.InForce != want.InForce || s.Tried != want.Tried || failed != (want.Failure != nil) {
			return fmt.Errorf("port %d, %+v; want %d, %+v", got, s, port, want)
		}
		return nil
	})
}

// TestWhatIsLaidOverIsLikePublishedOnThisAgentAlone: a document that a rollout
// tries would else be in force on all agents, or on none; or stay when it is taken
// back, or be lost by a start without etcd.
func TestWhatIsLaidOverIsLikePublishedOnThisAgentAlone(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	const own, tried, bad, next = "server: {port: 1}", "server: {port: 2}", "server: {port: 0}", "server: {port: 3}"
	publish(t, c, "group/web", own)
	publish(t, c, "agent/a1", "server: {host: mine}")
	told := make(chan struct{}, 100)
	r, other := newRig(t, c, goodFile(t)), newRig(t, c, "")
	r.src.Overlay = config.NewOverlay(func() { told <- struct{}{} })
	r.start(t)
	other.start(t)
	r.overlaid(t, "the scope's own", 1, config.OverlayStanding{InForce: digest(own), Tried: false})

	lay := func(document string) {
		t.Helper()
		if err := r.src.Overlay.Lay("group/web", []byte(document), 42); err != nil {
			t.Fatal(err)
		}
	}
	lay(tried)
	r.overlaid(t, "what is laid over", 2, config.OverlayStanding{Laid: digest(tried), InForce: digest(tried), Tried: true})
	if s := r.Snapshot(); s.Value.Server.Host != "mine" || other.Snapshot().Value.Server.Port != 1 {
		t.Errorf("%+v, another agent %+v: want the stronger layer over it, and the other agent as it was", s.Value, other.Snapshot().Value)
	}
	if layers := r.Status().Layers; len(layers) != 2 || !layers[0].Overlay || layers[0].Revision != 42 || layers[1].Overlay {
		t.Errorf("the status does not tell what is laid over: %+v", layers)
	}
	if len(told) == 0 {
		t.Error("nobody was told")
	}

	lay(bad)
	r.overlaid(t, "a bad one", 2, config.OverlayStanding{Laid: digest(bad), InForce: digest(tried), Tried: true, Failure: os.ErrInvalid})
	r.src.Overlay.Lift("group/web")
	r.overlaid(t, "the scope's own again", 1, config.OverlayStanding{InForce: digest(own)})

	// A start without etcd runs it.
	lay(tried)
	r.overlaid(t, "what is laid over again", 2, config.OverlayStanding{Laid: digest(tried), InForce: digest(tried), Tried: true})
	r.stop(t)
	nobody := etcdtest.Start(t)
	gone := nobody.Client(t)
	nobody.Stop()
	alone := newImpatientRig(t, gone, r.src.File, 100*time.Millisecond)
	alone.src.Overlay = config.NewOverlay(nil)
	if err := alone.src.Overlay.Lay("group/web", []byte(tried), 42); err != nil {
		t.Fatal(err)
	}
	alone.start(t)
	alone.overlaid(t, "without etcd", 2, config.OverlayStanding{Laid: digest(tried), InForce: digest(tried), Tried: true})
	alone.stop(t)

	// It gives way to what is published next, and no sooner.
	again := newRig(t, c, r.src.File)
	again.src.Overlay = config.NewOverlay(nil)
	if err := again.src.Overlay.Lay("group/web", []byte(tried), 42); err != nil {
		t.Fatal(err)
	}
	again.start(t)
	publish(t, c, "group/web", "server: {port: 9}")
	other.runsPort(t, 9)
	publish(t, c, "agent/a1", "server: {host: seen}")
	waittest.Until(t, "what was published is seen", func() bool { return again.Snapshot().Value.Server.Host == "seen" })
	again.overlaid(t, "not before it is to yield", 2, config.OverlayStanding{Laid: digest(tried), InForce: digest(tried), Tried: true})
	again.src.Overlay.Lift("group/web")
	again.runsPort(t, 9)
	if err := again.src.Overlay.Lay("group/web", []byte(tried), 42); err != nil {
		t.Fatal(err)
	}
	again.runsPort(t, 2)
	over := again.src.Overlay.Standing("group/web").Over
	again.src.Overlay.Yield("group/web")
	publish(t, c, "group/web", next)
	again.overlaid(t, "what was published", 3, config.OverlayStanding{InForce: digest(next)})
	again.stop(t)

	// Also to what was published while no process ran.
	last := newRig(t, c, r.src.File)
	last.src.Overlay = config.NewOverlay(nil)
	if err := last.src.Overlay.Resume("group/web", []byte(tried), 42, over); err != nil {
		t.Fatal(err)
	}
	last.src.Overlay.Yield("group/web")
	last.start(t)
	last.overlaid(t, "what was published meanwhile", 3, config.OverlayStanding{InForce: digest(next)})
}

// TestOverlayRefusesWhatIsNoDocument: the agent would otherwise be without the
// scope's own.
func TestOverlayRefusesWhatIsNoDocument(t *testing.T) {
	o := config.NewOverlay(nil)
	if o.Lay("everybody", []byte("{}"), 1) == nil || o.Lay("global", nil, 1) == nil {
		t.Error("taken")
	}
}
