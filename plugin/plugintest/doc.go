// Package plugintest puts a plugin, in whatever language it is written,
// through what a host will do to it. An author's test is
//
//	func TestPluginKeepsTheProtocol(t *testing.T) {
//		plugintest.Run(t, "bin/weather")
//	}
//
// with bin/weather.plugin.yaml beside the executable. Config tells of tasks
// that the plugin can do; with them far more is checked.
//
// The suite starts the executable as a host does and talks to it over the bare
// wire: it reads the handshake line itself and calls the service of package
// pluginpb over plain gRPC on the Unix socket. It uses neither package sdk nor
// go-plugin. Each check is a subtest with processes of its own:
//
//	Handshake        the first line on standard output is the handshake
//	Cookie           started by hand, the executable ends with an error and serves nothing
//	Socket           it listens in the directory that it was given, itself
//	Environment      it needs no variable but those that the protocol names
//	Info             it is what its manifest says
//	ForeignServices  calls of services that it does not have do it no harm
//	Attach           the stream tells at once whether Start has succeeded, and stays open
//	Start            it is healthy after Start, and settings that it cannot use are an error
//	Health           it answers while tasks run and nobody takes their results
//	Capability       a task of a kind that it does not have is UNIMPLEMENTED
//	Execute          tasks end as they should; hopeless ones are INVALID_ARGUMENT
//	Resume           a task begun with a result's cursor goes on right after that result
//	LargeMessages    a task of 16 MiB reaches it, and results of that size come back
//	BackPressure     it produces no faster than the host takes
//	Cancel           a cancelled task ends, and another can begin
//	Deadline         a task ends by itself at its deadline
//	Stop             running tasks end with ABORTED after what they have produced
//	Terminate        SIGTERM ends the process, before and after Stop
//	SecondHost       it serves two hosts, and goes on when the first one leaves
//	Reattach         it goes on after the connection broke and a host has come back
//	Orphan           without a host it does what Stop does and exits by itself
//	Output           full pipes keep it neither from answering nor alive
//	Generations      two processes of it work side by side
//
// It needs Unix; elsewhere Run skips the test. On Linux it also looks at the
// socket's owner and at the memory and processor time that the process uses.
package plugintest
