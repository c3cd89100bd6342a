// Package config keeps a typed configuration up to date, from documents in
// etcd and on the host, while the program runs.
//
// # Layers
//
// A configuration is made of these, each over the one before:
//
//	the default tags of the type, and Config.Default
//	Config.Files, documents on this host, in their order
//	environment variables that begin with Config.EnvPrefix
//	<root>config/global
//	<root>config/group/<group>      one for each of the agent's groups, in its order
//	<root>config/agent/<agent-id>
//
// Documents, YAML or JSON, are merged deeply: a mapping is merged key by key,
// a list or a scalar replaces what was there, and a null takes out what earlier
// documents said, so that the default applies again. An entry of a Go map in
// the default is replaced as a whole, and so are a list and an any. An element
// that a document adds to a list or a map of structs begins with the default
// tags of its type.
//
// Fields are found by their yaml tag, or else by the lower-case field name,
// exactly. A field that the type does not have is an error; so are a number
// that does not fit, a fraction for an integer and a duration without a unit.
// Errors name the path, the line and the column, through aliases and merge
// keys too, or the environment variable. Types with UnmarshalText are read
// from strings. "inline" in the tag squashes a struct. Variables and default
// tags are read by the same rules.
//
// A Section is a part of the documents that a library has for itself, beside
// the program's type.
//
// Tags of a field: yaml (its name), default, env (the variable's name, "-" for
// none), secret:"true", and doc, one sentence for the schema.
//
// # Guarantees
//
// What Snapshot returns has passed Config.Validate and all Validate methods as
// a whole, and every subscriber (see Sub) has agreed to it. Reading it is one
// atomic load. A document that cannot be parsed, decoded or validated, is too
// large, or is refused by a subscriber changes nothing: the running
// configuration stays, for everybody, and Status tells the running, the wanted
// and the last failed revision and why. Any one bad layer holds back all,
// since a configuration of which a part is missing is not what anybody asked
// for. The same bad document is reported once, however often it is heard.
//
// What subscribers refuse is tried ApplyAttempts times, with growing pauses.
//
// The documents of the last good configuration, local ones included, are kept
// in Source.File and are enough to start without etcd, or with bad documents.
// They are kept once all subscribers have agreed. A configuration in whose
// taking in the program has ended three times is not tried again before its
// documents change: the program starts on the last good one instead. With etcd
// reachable and no document there, the default applies, and must be valid
// then; unless it is another etcd than the running documents are from, or one
// that went back in time: it has lost them, so they stay in force until a
// document from there is.
//
// Not guaranteed: that a configuration which crashes the program after its
// subscribers have agreed is left. Nor that subscribers take it in at the same
// moment; each is given the values, and is not to read Snapshot meanwhile.
//
// # Threats
//
// Whoever may write the documents decides the configuration. What they cannot
// do is exhaust or crash the agent: documents are bounded in bytes
// (Config.MaxBytes), in depth, and in the size they have once YAML aliases are
// expanded; a panic of Validate or of a subscriber is a refusal. The decoder's
// messages name paths and types, and texts that a type does not take. Secrets,
// fields of type Secret or tagged secret:"true", are in no message, status or
// log of this package, but for those of fewer than four bytes; a program that
// prints a tagged field itself is on its own (see Redacted). The file is
// written with mode 0600 and holds the documents as they are.
package config
