// Package pluginpb is the wire contract between a host and its plugins:
// gRPC over hashicorp/go-plugin, so that a plugin can be written in any
// language. Plugins in Go use package sdk and need nothing from here.
//
// # A plugin in another language
//
// Beside the service, in plugin.proto, a process does the following. The suite
// in package plugintest checks all of it.
//
//   - Unless the environment variable CookieKey has the value CookieValue it was
//     started by hand: it says so and exits with a status that is not 0.
//   - It listens on a Unix socket, by itself and not in a child, anywhere in the
//     directory that PLUGIN_UNIX_SOCKET_DIR names, and serves gRPC there without
//     TLS, with messages of up to MaxMessageBytes. It takes connections for as
//     long as it lives.
//   - Then it writes one line to standard output, and flushes it:
//     1|1|unix|PATH|grpc| and a newline. The first number is that of go-plugin's
//     handshake, the second ProtocolVersion, PATH the socket's absolute path.
//     Nothing comes before it on standard output.
//   - Whatever it writes afterwards to standard output and standard error is its
//     log, a line a record. JSON with msg, level and time, as log/slog writes
//     it, keeps its level and attributes. While nobody reads, a write waits:
//     nothing but the work that logs may wait with it.
//   - Standard input is empty. The working directory is the process's own and is
//     deleted after it. Of the host's environment it sees PATH, HOME, TZ, LANG,
//     LC_ALL and TMPDIR, as far as they are set; it can do without.
//   - The process ends on SIGTERM, which may come without a Stop. It exits by
//     itself when no host has been attached for as many seconds as OrphanKey
//     says, counted from its start or from the end of the last Attach.
//   - go-plugin also calls services of its own; that they are UNIMPLEMENTED is
//     fine.
package pluginpb

// The virtual path keeps the file's name in the global protobuf registry from
// clashing with another library's plugin.proto.
//
//go:generate protoc -Iperennial/plugin/v1=. --go_out=. --go_opt=module=github.com/perennial-go/perennial/plugin/pluginpb --go-grpc_out=. --go-grpc_opt=module=github.com/perennial-go/perennial/plugin/pluginpb perennial/plugin/v1/plugin.proto

// What go-plugin's handshake needs. The cookie keeps a user from running a
// plugin by hand by mistake; it is no secret.
const (
	// ProtocolVersion is the version of the service Plugin in this package,
	// negotiated by go-plugin as an integer.
	ProtocolVersion = 1
	// CookieKey is the environment variable that a host sets for a plugin.
	CookieKey = "PERENNIAL_PLUGIN"
	// CookieValue is its value.
	CookieValue = "5f1d6a43-perennial-plugin"
	// OrphanKey is the environment variable that tells a plugin for how many
	// seconds, a decimal number, it goes on without a host.
	OrphanKey = "PERENNIAL_PLUGIN_ORPHAN_SECONDS"
	// OrphanSeconds is the default.
	OrphanSeconds = 60
	// MaxMessageBytes bounds one Task and one Result, encoded.
	MaxMessageBytes = 16 << 20
)
