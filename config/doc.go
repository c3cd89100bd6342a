// Package config keeps a typed configuration up to date from documents in
// etcd while the program runs.
//
// # Documents
//
// Three layers apply to an agent, each one document, YAML or JSON, at
//
//	<root>config/global
//	<root>config/group/<group>      one for each of the agent's groups, in its order
//	<root>config/agent/<agent-id>
//
// and are merged deeply in that order over Config.Default: a mapping is
// merged key by key, a list or a scalar replaces what was there, and a null
// takes out what earlier documents said, so that the default applies again.
// An entry of a Go map in the default is replaced as a whole, and so are a list
// and an any.
//
// Fields are found by their yaml tag, or else by the lower-case field name,
// exactly. A field that the type does not have is an error that names its
// path; a number that does not fit, a fraction for an integer and a duration
// without a unit are errors too. Types with UnmarshalText are read from
// strings. "inline" in the tag squashes a struct.
//
// # Guarantees
//
// What Snapshot returns has passed Validate as a whole, always. A document
// that cannot be parsed, decoded or validated, or is too large, changes
// nothing: the running configuration stays, and Status tells the running, the
// wanted and the last failed revision and why. Any one bad document holds
// back all, since a configuration of which a part is missing is not what
// anybody asked for.
//
// The documents of the last good configuration are kept in Source.File and
// are enough to start without etcd. With etcd reachable and no document
// there, the default applies, and must be valid then.
//
// # Threats
//
// Whoever may write the documents decides the configuration. What they cannot
// do is exhaust the agent: documents are bounded in bytes (Config.MaxBytes),
// in depth, and in the size they have once YAML aliases are expanded. The
// decoder's messages name paths and types, not the values found. The file is
// written with mode 0600.
package config
