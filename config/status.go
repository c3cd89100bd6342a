package config

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// Status is the state of a Store, for display and for the agent's status key.
// It holds no secrets.
type Status struct {
	// Running is the revision in force, Wanted the newest that was seen; they
	// differ while the newest is bad. 0 = no documents in etcd.
	Running int64 `json:"running"`
	Wanted  int64 `json:"wanted"`
	// RunningDigest and WantedDigest identify their documents; see
	// Snapshot.Digest. RunningSince is when that came into force here,
	// WantedSince when it was first seen.
	RunningDigest string    `json:"running_digest,omitempty"`
	RunningSince  time.Time `json:"running_since,omitzero"`
	WantedDigest  string    `json:"wanted_digest,omitempty"`
	WantedSince   time.Time `json:"wanted_since,omitzero"`
	// LastFailed is the latest failure; it stays after a good configuration
	// has followed. nil = none since the start.
	LastFailed *Failure `json:"last_failed,omitempty"`
	// Origin is where the running configuration is from; see Snapshot.
	Origin string `json:"origin"`
	// Layers are what lies over the default in the running configuration, the
	// weakest first.
	Layers []Layer `json:"layers,omitempty"`
	// EtcdHeard is when etcd last gave this Store a sign of life, which is asked
	// for so that no more than 30 s lie between two: up to then is certain that
	// nothing newer was published. Zero = never.
	EtcdHeard time.Time `json:"etcd_heard,omitzero"`
	// EtcdSilentSince is set where that is longer ago, or etcd tells errors only:
	// the last sign of life before, or else when Run began. Zero = it is heard.
	EtcdSilentSince time.Time `json:"etcd_silent_since,omitzero"`
	// Error is what is wrong now, as one sentence or several; empty = nothing.
	Error string `json:"error,omitempty"`
	// Notes are what is odd and changes nothing, such as an environment
	// variable that sets no field.
	Notes []string `json:"notes,omitempty"`
}

// Layer is one layer of a configuration.
type Layer struct {
	// Name is the key in etcd, the path of a local file, or "environment".
	Name string `json:"name"`
	// Revision is the modification revision in etcd; 0 = it is not from there.
	Revision int64 `json:"revision,omitempty"`
	// Overlay: an Overlay has laid it in the place of what the key holds.
	Overlay bool `json:"overlay,omitempty"`
	// Variables are the environment variables that apply.
	Variables []string `json:"variables,omitempty"`
}

// Failure is a configuration that was refused.
type Failure struct {
	// Revision is the highest modification revision of its documents.
	Revision int64 `json:"revision"`
	// Digest identifies its documents; see Snapshot.Digest.
	Digest string `json:"digest,omitempty"`
	// Key is the layer at fault: a key in etcd, the path of a local file, or
	// "environment". Where only the whole is wrong, as when Validate refuses it,
	// it is the one that sets the field named, or else the document that
	// changed last. Empty = the default itself.
	Key string `json:"key,omitempty"`
	// Reason says what is wrong, with line, column and path where there are
	// such.
	Reason string `json:"reason"`
	// Subscriber is who refused it; empty = nobody was asked.
	Subscriber string `json:"subscriber,omitempty"`
	// Attempts is how often it was tried: once, unless a subscriber refused
	// it. A subscriber that hangs is waited for, which is no attempt.
	Attempts int `json:"attempts,omitempty"`
	// At is when it was last refused here.
	At time.Time `json:"at"`

	hanging bool // it is tried once Subscriber has returned
	crashed bool // the program ended while it took it in
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Key == "" {
		return "default configuration: " + f.Reason
	}
	return "configuration " + f.Key + ": " + f.Reason
}

// maxReason bounds Failure.Reason in bytes: it goes into the status.
const maxReason = 4 << 10

func failure(docs []document, key, reason string) *Failure {
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	return &Failure{
		Revision: revisionOf(docs), Digest: digestOf(docs), Key: key,
		Reason: strings.ToValidUTF8(reason, "\uFFFD"), Attempts: 1, At: time.Now(),
	}
}

// by notes the subscriber that err is from.
func (f *Failure) by(err error) *Failure {
	if r, ok := errors.AsType[*refusal](err); ok {
		f.Subscriber, f.hanging = r.subscriber, errors.Is(err, errHanging)
	}
	return f
}

func layersOf(docs []document) []Layer {
	var list []Layer
	for _, d := range docs {
		l := Layer{Name: d.Key, Revision: d.Revision, Overlay: d.laid}
		if d.tree != nil {
			for _, name := range d.tree.variables {
				l.Variables = append(l.Variables, name)
			}
			slices.Sort(l.Variables)
		}
		list = append(list, l)
	}
	return list
}

// reporter collects a Status. Its zero value is ready.
type reporter struct {
	mu         sync.Mutex
	state      Status            // but for Error and LastFailed
	lastFailed *Failure          // never modified
	current    *Failure          // nil once a good one is in force
	applied    uint64            // configurations that came into force
	failures   map[string]uint64 // those that did not, by reason
	heard      func() time.Time  // when etcd last was; nil = nobody listens
	began      time.Time
	silent     time.Time // when etcd was last heard before it told errors
	// What is wrong with etcd, with what it holds, and with the file.
	etcd, missing, file error
	told                func() // of each change; nil = nobody
}

// change edits the state and tells that it may look different now.
func (r *reporter) change(edit func()) {
	r.mu.Lock()
	edit()
	told := r.told
	r.mu.Unlock()
	if told != nil {
		told()
	}
}

// begin is of Run's start.
func (r *reporter) begin(told func(), notes []string) {
	r.change(func() { r.told, r.state.Notes, r.began = told, notes, time.Now() })
}

// listens is of the start of what hears etcd.
func (r *reporter) listens(heard func() time.Time) {
	r.change(func() { r.heard = heard })
}

// silence is after how much of it etcd counts as not heard.
const silence = 30 * time.Second

// signs tells when etcd was last heard, and since when it is not.
func (r *reporter) signs() (heard, silentSince time.Time) {
	if r.heard == nil {
		return time.Time{}, r.began
	}
	heard = r.heard()
	switch {
	case r.etcd != nil:
		return heard, r.silent
	case heard.IsZero():
		return heard, r.began
	case time.Since(heard) > silence:
		return heard, heard
	}
	return heard, time.Time{}
}

// running notes that docs came into force at since, and in the same step that
// they are wanted, where they are what was seen last, or all that was seen: a
// status in between would show a good configuration as one that is refused.
func (r *reporter) running(docs []document, origin string, since time.Time, fresh, latest bool) {
	r.change(func() {
		if fresh {
			r.applied++
		}
		revision, digest := revisionOf(docs), digestOf(docs)
		r.state.Running, r.state.RunningDigest, r.state.RunningSince = revision, digest, since
		r.state.Origin, r.state.Layers = origin, layersOf(docs)
		if latest || r.state.WantedSince.IsZero() {
			r.wanted(revision, digest)
			r.current = nil
		}
	})
}

// refused notes what was seen, and why it did not come into force.
func (r *reporter) refused(f *Failure) {
	r.change(func() {
		if f != r.current {
			if r.failures == nil {
				r.failures = map[string]uint64{}
			}
			r.failures[f.kind()]++
		}
		r.wanted(f.Revision, f.Digest)
		r.current, r.lastFailed = f, f
	})
}

// wanted is of a change.
func (r *reporter) wanted(revision int64, digest string) {
	if r.state.WantedSince.IsZero() || revision != r.state.Wanted || digest != r.state.WantedDigest {
		r.state.WantedSince = time.Now()
	}
	r.state.Wanted, r.state.WantedDigest = revision, digest
}

// etcdError notes why etcd is not heard; nil = it is.
func (r *reporter) etcdError(err error) {
	r.change(func() {
		if err != nil && r.etcd == nil {
			heard, silent := r.signs()
			if silent.IsZero() {
				silent = heard
			}
			r.silent = silent
		}
		r.etcd = err
	})
}

// lost notes that etcd has lost what runs; nil = it has not.
func (r *reporter) lost(err error) {
	r.change(func() { r.missing = err })
}

func (r *reporter) fileError(err error) {
	r.change(func() { r.file = err })
}

func (r *reporter) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.EtcdHeard, s.EtcdSilentSince = r.signs()
	s.Layers, s.Notes = slices.Clone(s.Layers), slices.Clone(s.Notes)
	if r.lastFailed != nil {
		f := *r.lastFailed
		s.LastFailed = &f
	}
	var wrong []string
	if r.current != nil {
		wrong = append(wrong, r.current.Error())
	}
	for _, err := range []error{r.etcd, r.missing, r.file} {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	s.Error = strings.Join(wrong, "; ")
	return s
}
