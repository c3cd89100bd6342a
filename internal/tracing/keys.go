package tracing

// The names of attributes; those that are log keys as well mean the same.
const (
	Agent   = "agent"
	Version = "version"
	Attempt = "attempt"
	Release = "release"
	Plugin  = "plugin"
	Task    = "task"

	Action     = "action"
	Capability = "capability"
	Class      = "class"
	Downloaded = "bytes"
	Ended      = "ended"
	Form       = "form"
	Found      = "found"
	From       = "from"
	Run        = "run"
	State      = "state"
)
