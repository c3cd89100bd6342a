package tracing

// The names of attributes; those that are log keys as well mean the same.
const (
	Agent   = "agent"
	Version = "version"
	Attempt = "attempt"
	Release = "release"
	Plugin  = "plugin"
	Task    = "task"

	Action        = "action"
	Capability    = "capability"
	Class         = "class"
	Downloaded    = "bytes"
	Ended         = "ended"
	Form          = "form"
	Found         = "found"
	From          = "from"
	PluginVersion = "plugin_version"
	Run           = "run"
	State         = "state"
	To            = "to" // an agent that a task is given to
)
