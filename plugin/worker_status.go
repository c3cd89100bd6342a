package plugin

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// set publishes a state and its reason, unless both are as before.
func (w *worker) set(s State, reason string) {
	reason = sentence(reason)
	w.mu.Lock()
	same := w.status.State == s && w.status.Reason == reason
	if w.status.State != s {
		w.status.Since = time.Now()
	}
	w.status.State, w.status.Reason = s, reason
	if w.current == nil {
		w.status.PID = 0
		w.accepted = nil // what it demanded last, to be Required, stays
		if w.base != nil {
			w.accept(w.base.bundle)
		}
	}
	w.mu.Unlock()
	if !same {
		level := slog.LevelInfo
		if s == Refused || s == Quarantined {
			level = slog.LevelWarn
		}
		w.log.Log(context.Background(), level, "plugin state", "state", s, "reason", reason)
		w.notify()
	}
}

// remark publishes what is to be said about files that are not in force.
func (w *worker) remark(note string) { w.remarkAt(slog.LevelWarn, note) }

func (w *worker) remarkAt(level slog.Level, note string) {
	note = sentence(note)
	w.mu.Lock()
	same := w.note == note
	w.note = note
	w.mu.Unlock()
	if !same {
		if note != "" {
			w.log.Log(context.Background(), level, "plugin files", "text", note)
		}
		w.notify()
	}
}

func (w *worker) update(f func(*Status)) {
	w.mu.Lock()
	f(&w.status)
	w.mu.Unlock()
	w.notify()
}

// count adds an exception.
func (w *worker) count(what string) {
	w.update(func(s *Status) {
		s.Exceptions++
		s.LastError, s.LastErrorAt = sentence(what), time.Now()
	})
}

// accept makes b what the status is about; with mu held.
func (w *worker) accept(b *bundle) {
	w.accepted, w.status.Required = b, b.manifest.Required
}

// vacate publishes that there is no process any more.
func (w *worker) vacate() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.current = nil
	w.status.PID, w.status.Usage = 0, Usage{}
}

func (w *worker) snapshot() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.status
	if b := w.accepted; b != nil {
		s.Version, s.Digest = b.manifest.Version, "sha256:"+b.manifest.SHA256
		s.Capabilities = slices.Clone(b.manifest.Capabilities)
		s.Signed = b.signed
	}
	if w.current != nil {
		s.Protocol = pluginpb.ProtocolVersion
		s.OpenTasks = w.current.open()
	}
	for i := range w.draining {
		s.OpenTasks += i.open()
	}
	if w.note != "" {
		if s.Reason != "" {
			s.Reason += "; "
		}
		s.Reason += w.note
	}
	return s
}

// acquire returns the instance that takes tasks, entered, or nil.
func (w *worker) acquire(resumable bool) *instance {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.current == nil || !w.current.enter(resumable) {
		return nil
	}
	return w.current
}

// pin publishes which executables must stay.
func (w *worker) pin() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pinned = w.pinned[:0]
	for _, t := range []*trial{w.base, w.next} {
		if t != nil {
			w.pinned = append(w.pinned, t.bundle.manifest.SHA256)
		}
	}
}

// loaded is the bundle that runs or is to, nil if there is none.
func (w *worker) loaded() *bundle {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status.State == Refused || w.status.State == Quarantined || w.status.State == Stopped {
		return nil
	}
	return w.accepted
}

// keeps returns the digests that must stay in the depot.
func (w *worker) keeps() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.pinned)
}
