package config

import (
	"strings"
	"sync"
	"time"
)

// Status is the state of a Store, for display and for the agent's status key.
type Status struct {
	// Running is the revision in force, Wanted the newest that was seen; they
	// differ while the newest is bad. 0 = no documents.
	Running int64 `json:"running"`
	Wanted  int64 `json:"wanted"`
	// LastFailed is the latest failure; it stays after a good configuration
	// has followed. nil = none since the start.
	LastFailed *Failure `json:"last_failed,omitempty"`
	// Origin is where the running configuration is from; see Snapshot.
	Origin string `json:"origin"`
	// Error is what is wrong now, as one sentence or several; empty = nothing.
	Error string `json:"error,omitempty"`
}

// Failure is a configuration that was refused.
type Failure struct {
	// Revision is the highest modification revision of its documents.
	Revision int64 `json:"revision"`
	// Key is the document at fault in etcd. Where only the whole is wrong, as
	// when Validate refuses it, it is the document that changed last. Empty =
	// the default itself.
	Key string `json:"key,omitempty"`
	// Reason says what is wrong, with the path of the field where there is one.
	Reason string `json:"reason"`
	// At is when it was refused here.
	At time.Time `json:"at"`
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Key == "" {
		return "default configuration: " + f.Reason
	}
	return "configuration " + f.Key + ": " + f.Reason
}

func failure(docs []document, key string, err error) *Failure {
	return &Failure{Revision: revisionOf(docs), Key: key, Reason: err.Error(), At: time.Now()}
}

// reporter collects a Status. Its zero value is ready.
type reporter struct {
	mu         sync.Mutex
	run, want  int64
	origin     string
	lastFailed *Failure
	current    *Failure // nil once a good one is in force
	etcd, file error
	told       func() // of each change; nil = nobody
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

func (r *reporter) tell(told func()) { r.change(func() { r.told = told }) }

func (r *reporter) running(revision int64, origin string) {
	r.change(func() { r.run, r.origin = revision, origin })
}

// wanted notes what was seen, and nil or why it was refused.
func (r *reporter) wanted(revision int64, f *Failure) {
	r.change(func() {
		r.want, r.current = revision, f
		if f != nil {
			r.lastFailed = f
		}
	})
}

func (r *reporter) etcdError(err error) {
	r.change(func() { r.etcd = err })
}

func (r *reporter) fileError(err error) {
	r.change(func() { r.file = err })
}

func (r *reporter) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{Running: r.run, Wanted: r.want, Origin: r.origin}
	if r.lastFailed != nil {
		f := *r.lastFailed
		s.LastFailed = &f
	}
	var wrong []string
	if r.current != nil {
		wrong = append(wrong, r.current.Error())
	}
	for _, err := range []error{r.etcd, r.file} {
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	s.Error = strings.Join(wrong, "; ")
	return s
}
