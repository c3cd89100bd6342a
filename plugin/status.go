package plugin

import (
	"strings"
	"time"
	"unicode"
)

// State says what a plugin is doing.
type State string

// The states of a plugin.
const (
	// Discovered: seen, not yet judged; its files may still be being copied.
	Discovered State = "discovered"
	// Starting: the process runs and has not yet said that it is healthy.
	Starting State = "starting"
	// Running: it takes tasks.
	Running State = "running"
	// Degraded: it takes tasks, but reports a problem or missed a health check.
	Degraded State = "degraded"
	// BackingOff: it died or did not start, and will be started again.
	BackingOff State = "backoff"
	// Quarantined: it died too often; it waits for its files to change.
	Quarantined State = "quarantined"
	// Refused: its files cannot be used; it waits for them to change.
	Refused State = "refused"
	// Draining: it is being stopped and takes no more tasks.
	Draining State = "draining"
	// Disabled: an operator wants it not to run; see Manager.Disable.
	Disabled State = "disabled"
	// Stopped: it has no process, because its files or the host are gone.
	Stopped State = "stopped"
)

// Status is what is known of one plugin.
type Status struct {
	Name string `json:"name"`
	// Version and Digest ("sha256:<hex>") are of the generation that runs, or
	// of the one that is to.
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
	State   State  `json:"state"`
	// Reason explains the state. A running plugin has one when the files in
	// the directory are newer and cannot be used.
	Reason string `json:"reason,omitempty"`
	PID    int    `json:"pid,omitempty"`
	// Generation counts what was put in charge under this name: new files and
	// restarts on demand, not restarts after a crash. It begins with 1, and 0
	// means that nothing has run yet. It survives a re-attach.
	Generation int64 `json:"generation,omitempty"`
	// Protocol is the protocol version spoken with the process.
	Protocol int `json:"protocol,omitempty"`
	// OpenTasks counts calls of Execute in flight, those of a generation that
	// drains included.
	OpenTasks int `json:"open_tasks,omitempty"`
	// Restarts counts processes started to replace one that failed.
	Restarts int64 `json:"restarts"`
	// Exceptions counts deaths, failed starts, failed health checks and tasks
	// that the plugin ended with an error.
	Exceptions int64 `json:"exceptions"`
	// Inherited is how many of the Exceptions an earlier host has counted, where
	// this one goes on with its process.
	Inherited int64 `json:"-"`
	// LastError is the newest of the exceptions, and LastErrorAt its time. Both
	// outlive the recovery.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
	// Since is when State was entered.
	Since        time.Time `json:"since"`
	Capabilities []string  `json:"capabilities,omitempty"`
	// Required repeats the manifest's or the host's demand for it.
	Required bool `json:"required,omitempty"`
	// Signed is the id of the key that signed the manifest, "" if none was
	// asked for or found.
	Signed string `json:"signed,omitempty"`
	// Limits says what enforces each of the manifest's limits: "memory by
	// cgroup, cpu not held (why), files by rlimit"; "" if it has none.
	Limits string `json:"limits,omitempty"`
	Usage  Usage  `json:"usage"`
}

// Usage is what the plugin's process uses, measured when it became ready and
// at every health check. Its fields are 0 where the system cannot tell (only
// Linux can).
type Usage struct {
	// RSSBytes is the resident memory.
	RSSBytes int64 `json:"rss_bytes"`
	// CPUSeconds is user and system time since the process began.
	CPUSeconds float64 `json:"cpu_seconds"`
	// OpenFDs counts open descriptors.
	OpenFDs int `json:"open_fds"`
}

// Task is one piece of work for a plugin.
type Task struct {
	// ID identifies the task in logs.
	ID string
	// Capability is what is asked for; the plugin must have it.
	Capability string
	// Payload is the task's input, of a form that the capability defines.
	Payload []byte
	// Cursor is the resume point of the last result that the caller made
	// durable, "" to begin.
	Cursor string
	// Resumable says that the caller keeps cursors and executes again after
	// ErrInterrupted: such a call is interrupted at once when its process is to
	// be replaced or handed to another host. Others get Config.DrainTimeout or
	// DetachTimeout to finish.
	Resumable bool
	// Attempt says how often the task may have been begun before: 0 the first
	// time, and then only.
	Attempt int
	// IdempotencyKey is the same for every attempt at the same piece of work,
	// however often it was submitted; "" for none.
	IdempotencyKey string
}

// Result is one piece of what a task yields.
type Result struct {
	// Payload is the result, of a form that the capability defines.
	Payload []byte
	// Cursor is where a later task resumes after this result. Keep it only
	// once the payload is durable. "" means that there is no such point.
	Cursor string
}

// maxSentenceBytes bounds what is told of a plugin, which may quote it: it goes
// to logs, terminals and the registry.
const maxSentenceBytes = 1024

// sentence makes s one line of bounded length.
func sentence(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r):
			return unicode.ReplacementChar
		}
		return r
	}, s[:min(len(s), 4*maxSentenceBytes)])
	if len(s) <= maxSentenceBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxSentenceBytes-len("…")], "") + "…"
}
