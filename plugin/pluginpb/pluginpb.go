// Package pluginpb is the wire contract between a host and its plugins:
// gRPC over hashicorp/go-plugin, so that a plugin can be written in any
// language. Plugins in Go use package sdk and need nothing from here.
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
