// Package logkey holds the keys that the log lines of this repository may
// have, and the scan that its test applies to every line. A key means the same
// on each line, whoever writes it, so that one query finds all that happened
// to a task or in an upgrade.
package logkey

// Key is one key of a log line.
type Key struct {
	Name string
	// Type is that of the value as JSON has it.
	Type string
	// Meaning is one phrase, as docs/observability.md has it.
	Meaning string
}

// Keys is the whole list, in the order of the documentation. It does not grow
// by one for each line: most of what a line tells has its key already, and what
// has none is a name, a text or a count.
func Keys() []Key {
	return []Key{
		{"agent", "string", "id of the agent that writes; on every line of an agent"},
		{"version", "string", "version of the program that writes; on every line of an agent"},
		{"attempt", "string", "id of the request for an upgrade, a rollback or another change; of an attempt that nobody asked for, when it began"},
		{"release", "string", "version of the release that the line is about; with `attempt`, the one that is tried"},
		{"plugin", "string", "name of a plugin"},
		{"plugin_version", "string", "version of that plugin"},
		{"task", "string", "id of a task"},
		{"error", "string", "what went wrong"},
		{"reason", "string", "why it is so, where it is no error"},
		{"text", "string", "something verbatim, as what a plugin wrote"},
		{"fields", "object", "what a plugin, or another program's log, had of its own on that line; its keys are theirs"},
		{"action", "string", "what was asked for or done"},
		{"by", "string", "who asked, as they said"},
		{"state", "string", "state that was entered or found"},
		{"from", "string", "version of the release before"},
		{"to", "string", "version of the release that is gone back to"},
		{"before", "string or number", "what the line's other value was before, or still is"},
		{"alert", "string", "name of an alert"},
		{"indicator", "string", "name of an indicator"},
		{"value", "number", "value of that indicator"},
		{"threshold", "number", "value that it is compared with"},
		{"check", "string", "name of a check"},
		{"kind", "string", "kind of that check"},
		{"peer", "string", "id of another agent, that the line is about"},
		{"revision", "number", "revision of etcd"},
		{"origin", "string", "where the configuration is from"},
		{"digest", "string", "digest of a file or a configuration"},
		{"key", "string", "key in etcd, or several after each other"},
		{"key_id", "string", "id of a key that signs"},
		{"lease", "string", "lease of etcd, in hexadecimal"},
		{"cluster", "string", "id of an etcd cluster, in hexadecimal"},
		{"name", "string", "name of anything else"},
		{"path", "string", "file or directory"},
		{"slot", "string", "name of a slot, which is a directory below slots"},
		{"address", "string", "network address"},
		{"code", "number", "status of HTTP"},
		{"pid", "number", "id of a process"},
		{"signal", "string", "name of a signal"},
		{"count", "number", "how many"},
		{"total", "number", "of how many, or of how many bytes"},
		{"bytes", "number", "how many bytes"},
		{"offset", "number", "where in a file, in bytes"},
		{"duration", "number", "how long something took, or will; nanoseconds in JSON, such as 1.5s in text"},
	}
}
