package dispatch

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/Masterminds/semver/v3"

	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/internal/selector"
	"github.com/perennial-go/perennial/plugin"
)

// Limits of a task.
const (
	// MaxID bounds a task's id, in bytes.
	MaxID = 64
	// MaxPayload bounds a payload, in bytes.
	MaxPayload = 512 << 10
	// MaxText bounds Key, IdempotencyKey and SubmittedBy, in bytes.
	MaxText = 512
	// MaxRetries bounds Retry.Max.
	MaxRetries = 100
	// MaxPriority bounds a priority, which may be as far below 0.
	MaxPriority = 1000
	// MaxTTL bounds ResultTTL.
	MaxTTL = 366 * 24 * time.Hour
)

// Defaults of a task.
const (
	DefaultRetries    = 3
	DefaultMinBackoff = time.Second
	DefaultMaxBackoff = time.Minute
	DefaultTTL        = 24 * time.Hour
	// DefaultDeadTTL is the ResultTTL of a task on the dead-letter list.
	DefaultDeadTTL = 7 * 24 * time.Hour
)

// Policy says which of the agents that can take a task gets it.
type Policy string

// The policies.
const (
	// Any: one that has room, whichever.
	Any Policy = "any"
	// All: each agent that could take it when it was submitted, once. Each run
	// is a task of its own, see Info.Parent, and waits for its agent.
	All Policy = "all"
	// RoundRobin: in turn, passing over those that have no room. A new
	// dispatcher begins the round anew.
	RoundRobin Policy = "round-robin"
	// LeastLoaded: the one that has the least to do for its concurrency.
	LeastLoaded Policy = "least-loaded"
	// Rendezvous: tasks with the same Key go to the same agent, and wait for it
	// to have room. Where agents come or go, only the keys that they gain or
	// had move.
	Rendezvous Policy = "rendezvous"
)

// Task is a piece of work for a plugin. Its zero values are the defaults.
type Task struct {
	// ID names the task: a letter or digit, then up to 63 letters, digits,
	// underscores or hyphens; default is a new one, in the order of time.
	ID string `json:"id"`
	// Plugin is the name of the plugin that is to run it; empty = any that
	// has the capability.
	Plugin string `json:"plugin,omitempty"`
	// Capability is what the plugin is asked for. It may be empty where Plugin
	// is given and has one only.
	Capability string `json:"capability,omitempty"`
	// Version is a SemVer constraint on the plugin, such as ">=1.2, <2"; empty =
	// any version. Pre-releases take part.
	Version string `json:"version,omitempty"`
	// Selector says which agents may run it; empty = all. Labels as in
	// Kubernetes, and the fields .id, .group, .host, .platform, .version (of the
	// agent's program), .plugin and .capability: see ParseSelector.
	Selector string `json:"selector,omitempty"`
	// Policy chooses among the agents; default Any.
	Policy Policy `json:"policy,omitempty"`
	// Key is what Rendezvous goes by; required there, refused elsewhere.
	Key string `json:"key,omitempty"`
	// Priority: tasks with a higher one are assigned first, but one assignment
	// in ten goes to the task that was submitted first, so that none waits for
	// ever; -1000 to 1000. What is assigned already is never put off for another
	// task.
	Priority int `json:"priority,omitempty"`
	// NotBefore is when it may be assigned at the earliest; zero = at once.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Deadline is when it is too late: it is not begun after it, and cut off
	// where it runs; zero = never.
	Deadline time.Time `json:"deadline,omitzero"`
	// Timeout is how long one run may take, in which case it has failed and may
	// be retried; 0 = no limit.
	Timeout time.Duration `json:"timeout_ns,omitempty"`
	// Payload is the input, of a form that the capability defines; at most
	// MaxPayload bytes.
	Payload []byte `json:"payload,omitempty"`
	// Retry says what follows a run that failed.
	Retry Retry `json:"retry,omitzero"`
	// Resumable: it goes on from its last cursor wherever it is begun again, so
	// that an agent which is replaced need not wait for its end. For tasks that
	// never end by themselves.
	Resumable bool `json:"resumable,omitempty"`
	// IdempotencyKey makes a second Submit of the same task one of the task
	// that is there already, until that one is collected, and reaches the
	// plugin with every run. Tasks are the same if they differ in nothing but
	// ID, SubmittedBy, NotBefore and Deadline.
	IdempotencyKey string `json:"idempotency_key,omitempty"`
	// ResultTTL is how long the finished task and its results are kept; default
	// 24 h, and 7 days on the dead-letter list.
	ResultTTL time.Duration `json:"result_ttl_ns,omitempty"`
	// SubmittedBy says who submitted it, for people.
	SubmittedBy string `json:"submitted_by,omitempty"`
}

// Retry says how often and when a run that failed is repeated. A run that ended
// with its agent, or that an agent gave back, has not failed; but a task whose
// agent was lost MaxLosses times while it ran goes to the dead-letter list.
type Retry struct {
	// Max is how many runs may follow the first one that failed; default 3,
	// negative = none; at most MaxRetries.
	Max int `json:"max,omitempty"`
	// MinBackoff and MaxBackoff bound the wait before the next run, which
	// doubles from one to the other and is jittered; default 1 s and 1 min.
	MinBackoff time.Duration `json:"min_backoff_ns,omitempty"`
	MaxBackoff time.Duration `json:"max_backoff_ns,omitempty"`
}

// normal returns t with its defaults, or what is wrong with it.
func (t Task) normal() (Task, error) {
	if t.Policy == "" {
		t.Policy = Any
	}
	r := &t.Retry
	switch {
	case r.Max == 0:
		r.Max = DefaultRetries
	case r.Max < 0:
		r.Max = -1
	}
	if r.MinBackoff == 0 {
		r.MinBackoff = min(DefaultMinBackoff, max(r.MaxBackoff, 0))
		if r.MaxBackoff == 0 {
			r.MinBackoff = DefaultMinBackoff
		}
	}
	if r.MaxBackoff == 0 {
		r.MaxBackoff = max(DefaultMaxBackoff, r.MinBackoff)
	}
	if err := t.check(); err != nil {
		return Task{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	t.NotBefore, t.Deadline = t.NotBefore.UTC().Round(0), t.Deadline.UTC().Round(0)
	return t, nil
}

func (t Task) check() error {
	if t.ID != "" && !validID(t.ID) {
		return fmt.Errorf("id %.80q: want a letter or digit, then up to %d letters, digits, underscores or hyphens", t.ID, MaxID-1)
	}
	if t.Plugin == "" && t.Capability == "" {
		return fmt.Errorf("neither a capability nor a plugin: name at least one of them")
	}
	if t.Plugin != "" && !plugin.ValidName(t.Plugin) {
		return fmt.Errorf("plugin %.80q: no plugin has such a name: want 1 to 63 of a-z, 0-9 and inner hyphens", t.Plugin)
	}
	if t.Capability != "" && !plugin.ValidCapability(t.Capability) {
		return fmt.Errorf("capability %.80q: no plugin has it: want 1 to 63 of a-z, 0-9 and inner dots, underscores and hyphens", t.Capability)
	}
	if _, err := parseConstraint(t.Version); err != nil {
		return err
	}
	if _, err := selector.Parse(t.Selector, selectorFields()); err != nil {
		return err
	}
	if err := t.checkPolicy(); err != nil {
		return err
	}
	for name, text := range map[string]string{"key": t.Key, "idempotency key": t.IdempotencyKey, "submitted by": t.SubmittedBy} {
		if err := checkText(name, text); err != nil {
			return err
		}
	}
	return t.checkNumbers()
}

func (t Task) checkPolicy() error {
	switch t.Policy {
	case Any, All, RoundRobin, LeastLoaded:
		if t.Key != "" {
			return fmt.Errorf("key %.80q with policy %s: a key goes with policy %s only", t.Key, t.Policy, Rendezvous)
		}
	case Rendezvous:
		if t.Key == "" {
			return fmt.Errorf("policy %s without a key: say what it is to go by", Rendezvous)
		}
	default:
		return fmt.Errorf("policy %.80q: want one of %s, %s, %s, %s, %s", t.Policy, Any, All, RoundRobin, LeastLoaded, Rendezvous)
	}
	return nil
}

func (t Task) checkNumbers() error {
	switch r := t.Retry; {
	case len(t.Payload) > MaxPayload:
		return fmt.Errorf("payload of %d bytes: want at most %d; put it elsewhere and pass its name", len(t.Payload), MaxPayload)
	case t.Priority < -MaxPriority || t.Priority > MaxPriority:
		return fmt.Errorf("priority %d: want %d to %d", t.Priority, -MaxPriority, MaxPriority)
	case r.Max > MaxRetries:
		return fmt.Errorf("%d retries: want at most %d", r.Max, MaxRetries)
	case r.MinBackoff < 0 || r.MaxBackoff < r.MinBackoff || r.MaxBackoff > MaxTTL:
		return fmt.Errorf("back-off from %s to %s: want the first not negative and the second not less", r.MinBackoff, r.MaxBackoff)
	case t.Timeout < 0:
		return fmt.Errorf("timeout %s: want none or a positive one", t.Timeout)
	case t.ResultTTL < 0 || t.ResultTTL > MaxTTL:
		return fmt.Errorf("results kept for %s: want at most %s", t.ResultTTL, MaxTTL)
	case !t.Deadline.IsZero() && !t.NotBefore.IsZero() && !t.NotBefore.Before(t.Deadline):
		return fmt.Errorf("not before %s and a deadline of %s: want the deadline later", t.NotBefore.Format(time.RFC3339), t.Deadline.Format(time.RFC3339))
	case t.NotBefore.Year() > 9999 || t.Deadline.Year() > 9999:
		return fmt.Errorf("a time after the year 9999")
	}
	return nil
}

// validID reports whether id may name a task. The runs of a task for all agents
// have an id with a dot, which no task is submitted with.
func validID(id string) bool { return len(id) <= MaxID && ident.Valid(id, "_-") }

// validTaskID also takes ids of runs.
func validTaskID(id string) bool {
	parent, run, is := strings.Cut(id, ".")
	if !is {
		return validID(id)
	}
	return validID(parent) && len(run) == runDigits && strings.Trim(run, "0123456789") == ""
}

// runDigits is how many digits the number of a run has in its id.
const runDigits = 6

func runID(parent string, n int) string { return fmt.Sprintf("%s.%0*d", parent, runDigits, n) }

// checkText takes what people may read in a terminal.
func checkText(name, text string) error {
	if len(text) > MaxText {
		return fmt.Errorf("%s of %d bytes: want at most %d", name, len(text), MaxText)
	}
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return fmt.Errorf("%s %.80q: want UTF-8 without control characters", name, text)
	}
	return nil
}

// maxConstraint bounds a constraint, in bytes.
const maxConstraint = 256

// parseConstraint returns nil for the empty constraint.
func parseConstraint(text string) (*semver.Constraints, error) {
	if strings.TrimSpace(text) == "" {
		return nil, nil //nolint:nilnil // no constraint is none
	}
	if len(text) > maxConstraint {
		return nil, fmt.Errorf("version constraint of %d bytes: want at most %d", len(text), maxConstraint)
	}
	c, err := semver.NewConstraint(text)
	if err != nil {
		return nil, fmt.Errorf("version %.80q: want a SemVer constraint such as \">=1.2, <2\": %w", text, err)
	}
	c.IncludePrerelease = true
	return c, nil
}

// digest is the same for tasks that ask for the same. When, and for whom, is no
// part of it: who submits again may well say "in an hour" again.
func (t Task) digest() (string, error) {
	t.ID, t.SubmittedBy, t.NotBefore, t.Deadline = "", "", time.Time{}, time.Time{}
	data, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}
