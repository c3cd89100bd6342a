package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/perennial-go/perennial/internal/failpoint"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/upgrade/release"
)

// A download that was interrupted is resumed by the next attempt for the same
// binary, or removed once it is older than downloadRetention.
const (
	downloadPrefix    = "download-"
	downloadRetention = 24 * time.Hour
)

// attempt performs an upgrade or a rollback from its refusal or acceptance
// to its end.
func (u *Upgrader) attempt(ctx context.Context, r Request) (err error) {
	now := time.Now().UTC()
	attempt := Attempt{
		OrderID: r.ID, By: r.By, Action: r.Action, Asked: r.Asked, Started: now,
		From: u.running.Ref,
		To:   Ref{Version: r.Pin.Version, Manifest: r.Pin.Digest},

		Retain: u.keepFor(r), GiveUp: r.until(),
	}
	if longer := u.probationFor(r); longer > u.cfg.Probation {
		attempt.Probation = longer
	}
	done := r.ID != "" && r.ID == u.journal.last.RecalledBy
	ctx = u.traceAttempt(ctx, r, &attempt)
	defer func() { u.endAttempt(attempt, err) }()
	err = u.journal.begin(attempt)
	if err := u.takenUp(r.ID); err != nil {
		return err
	}
	if err != nil {
		// Nothing has begun, but whoever asked is waiting for an end.
		attempt.Schema, attempt.State, attempt.Reason, attempt.Updated = journalSchema, Failed, sentence(err.Error()), now
		u.count(func(t *totals) *totals { return t.ended(attempt, now) })
		u.publish(func(s *Status) { s.Attempt, s.Progress = attempt, nil })
		return err
	}
	u.publish(func(s *Status) { s.Attempt, s.Progress = u.journal.last, nil })
	bounded, cancel := u.prepareWithin(ctx, r)
	defer cancel()
	slot, err := Slot{}, errRunsAlready
	if !done {
		slot, err = u.admitted(bounded, r)
	}
	if errors.Is(err, errRunsAlready) {
		return u.already()
	}
	switch {
	case err != nil:
	case r.Action == ActionStage:
		if err = u.stage(slot, r); err == nil {
			return nil
		}
	default:
		err = u.mayStart(bounded, r)
	}
	if err != nil {
		why := unbegun(ctx, err)
		err = endedBy(ctx, bounded, err)
		return errors.Join(err, u.move(Failed, func(a *Attempt) { a.Reason, a.Unbegun = err.Error(), why }))
	}
	return u.swap(ctx, bounded, r, slot)
}

// mayStart waits until a successor may be started.
func (u *Upgrader) mayStart(ctx context.Context, r Request) error {
	if err := u.awaitIdle(ctx, r); err != nil {
		return err
	}
	if err := held(u.cfg.StateDir); err != nil { // it may have been set meanwhile
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return u.wanted(true)
}

// unbegun tells by what has ended an attempt that has started nothing whether
// that says something of the release.
func unbegun(ctx context.Context, err error) Unbegun {
	switch {
	case errors.Is(err, errRetracted):
		return UnbegunRetracted
	case ctx.Err() != nil:
		return UnbegunStopped
	}
	return ""
}

// admitted refuses r, or returns the slot that it leads to. What the host says of itself comes before what is asked of it,
// and what needs the network comes last.
func (u *Upgrader) admitted(ctx context.Context, r Request) (slot Slot, err error) {
	if err := failpoint.Hit("requested"); err != nil {
		return Slot{}, err
	}
	if err := r.Validate(); err != nil {
		return Slot{}, err
	}
	if u.flip == nil {
		return Slot{}, fmt.Errorf("hot swap: %w", ErrNotSupported)
	}
	if err := held(u.cfg.StateDir); err != nil {
		return Slot{}, err
	}
	if err := r.concerns(u.cfg.Name); err != nil {
		return Slot{}, err
	}
	if r.runs(u.running.Ref) {
		return Slot{}, errRunsAlready
	}
	if err := u.adoptRunning(); err != nil {
		return Slot{}, err // what runs must be there to come back to
	}
	if err := r.expects(u.running.Ref); err != nil {
		return Slot{}, err
	}
	switch r.Action {
	case ActionRollback, ActionRevert:
		slot, err = u.prepareRollback(ctx, r)
	case ActionUpgrade:
		if u.client != nil {
			slot, err = u.prepareStaged(ctx, r)
		}
		if u.client == nil || errors.Is(err, errNotStaged) {
			slot, err = u.prepare(ctx, r)
		}
	default:
		slot, err = u.prepare(ctx, r)
	}
	if err == nil && !r.Force && r.Action != ActionStage {
		err = u.withinBudget(r, slot)
	}
	return slot, err
}

// runs reports whether what r asks for is what runs.
func (r Request) runs(running Ref) bool {
	if r.Action == ActionRevert && !running.isNamed(r.Leave) {
		return true // something else does, and that is all that is asked for
	}
	if r.Action.back() && r.Pin.Digest == "" {
		return r.Pin.Version == running.Version
	}
	return r.Pin.Digest == running.Manifest
}

// errRunsAlready tells that what was asked for runs, perhaps as an executable
// that was installed by hand.
var errRunsAlready = errors.New("runs already")

// already ends an attempt that has nothing to do.
func (u *Upgrader) already() error {
	return u.move(Committed, func(a *Attempt) {
		a.To, a.Reason = u.running.Ref, fmt.Sprintf("nothing to do: %s runs already", u.running.Version)
	})
}

// prepare checks the release and makes its slot, or finds it.
func (u *Upgrader) prepare(ctx context.Context, r Request) (Slot, error) {
	if u.client == nil {
		return Slot{}, errors.New("this agent has no release source, so that it takes no upgrades: set one in its configuration")
	}
	if err := u.quarantine.check(Ref{Version: r.Pin.Version, Manifest: r.Pin.Digest}, time.Now()); err != nil {
		return Slot{}, err
	}
	asking, cancel := context.WithTimeout(u.course.in(ctx), documentsTimeout)
	defer cancel()
	manifest, raw, signature, err := u.client.Manifest(asking, r.Pin)
	u.heard()
	if err != nil {
		return Slot{}, err
	}
	if p, err := manifest.Here(); err == nil && manifest.Version == u.running.Version && p.SHA256 == u.running.Ref.Binary {
		return Slot{}, errRunsAlready
	}
	platform, rule, err := u.compatible(manifest, r.Action.back())
	if err != nil {
		return Slot{}, err
	}
	u.journal.last.AllowedBy = rule // the next move records it
	ref := Ref{Version: manifest.Version, Manifest: r.Pin.Digest, Binary: platform.SHA256}
	if err := u.quarantine.check(ref, time.Now()); err != nil {
		return Slot{}, err // the same executable under another manifest
	}
	for _, required := range u.cfg.Requirements {
		if err := required.Check(asking, manifest, r.Pin); err != nil {
			return Slot{}, err
		}
	}
	return u.obtain(ctx, manifest, ref, platform.Size, raw, signature)
}

// compatible says whether the release may run here, before any of it is
// downloaded. With older it is what a rollback leads to.
func (u *Upgrader) compatible(m *release.Manifest, older bool) (p release.Platform, rule string, err error) {
	running, err := release.ParseVersion(u.running.Version)
	if err != nil {
		return p, "", err
	}
	rule, err = release.Admit(u.cfg.Policy, running, m, release.PolicyContext{Older: older, PluginAPI: u.cfg.PluginAPI, ConfigSchema: u.cfg.ConfigSchema})
	if err != nil {
		return p, "", err
	}
	if err := u.cfg.Host.Compatible(m.Version); err != nil {
		return p, "", fmt.Errorf("%s: %w: %w", m.Version, release.ErrRequires, err)
	}
	p, err = m.Here()
	return p, rule, err
}

// obtain downloads and stages the release, whose executable has size bytes,
// unless its slot is there and its executable still has the signed digest.
func (u *Upgrader) obtain(ctx context.Context, m *release.Manifest, ref Ref, size int64, raw, signature []byte) (Slot, error) {
	slot, err := u.slots.open(slotName(ref))
	switch {
	case err == nil && slot.verify() == nil:
		if slot.Manifest != ref.Manifest {
			// The executable is that of another manifest, or was installed by hand.
			if slot, err = u.slots.relabel(slot, ref, raw, signature); err != nil {
				return Slot{}, err
			}
		}
		if err := slot.letIn(u.journal.last); err != nil {
			return Slot{}, err
		}
		return slot, u.move(Staged, func(a *Attempt) { a.To = ref })
	case err == nil:
		// Something wrote to an immutable slot. It is not the running one, which
		// the request would have named.
		if err := u.slots.remove(slot.Name()); err != nil {
			return Slot{}, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return Slot{}, err
	}
	download := filepath.Join(u.slots.stateDir, downloadPrefix+ref.Binary)
	if err := u.preflight(size, download); err != nil {
		return Slot{}, err
	}
	if err := u.move(Downloading, func(a *Attempt) { a.To = ref }); err != nil {
		return Slot{}, err
	}
	if err := failpoint.Hit("download"); err != nil {
		return Slot{}, err
	}
	got, err := u.fetch(ctx, m, download)
	u.count(func(t *totals) *totals { return t.fetched(got, size, err) })
	if err != nil {
		return Slot{}, err
	}
	u.course.phase.Set(attribute.String(tracing.Form, got.Form), attribute.Int64(tracing.Downloaded, got.Bytes))
	u.attemptLog().Info("release downloaded", "name", got.Form, "bytes", got.Bytes, "total", size)
	if err := failpoint.Hit("downloaded"); err != nil {
		return Slot{}, err
	}
	if err := u.move(Verifying, nil); err != nil {
		return Slot{}, err
	}
	last := u.journal.last
	slot, err = u.slots.stage(Slot{Ref: ref, AllowedBy: last.AllowedBy, By: last.By}, raw, signature, download)
	if err != nil {
		// It may have been moved already.
		if failed := os.Remove(download); !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
		return Slot{}, err
	}
	return slot, u.move(Staged, nil)
}

// executables are the binaries on this host that a delta may lead from, by
// digest. Whether a file still has its digest is for who uses it to see.
func (u *Upgrader) executables() map[string]string {
	paths := map[string]string{}
	complete, _, err := u.slots.list()
	if err != nil {
		u.log.Warn("slots are not readable, so there is nothing to make a release from", "error", err)
	}
	for _, slot := range complete {
		paths[slot.Ref.Binary] = slot.binary()
	}
	return paths
}

// removeStale deletes the files of dir whose names begin with prefix and
// that nobody has written to for age.
func removeStale(dir, prefix string, age time.Duration) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, statErr := e.Info()
		if statErr == nil && strings.HasPrefix(e.Name(), prefix) && time.Since(info.ModTime()) > age {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}
