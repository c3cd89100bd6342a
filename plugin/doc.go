// Package plugin finds, checks, starts, supervises and replaces plugins:
// executables that sit in one directory, each beside a manifest, and talk
// gRPC to the host over a private Unix socket (hashicorp/go-plugin).
//
// # The directory
//
// A plugin NAME is two files in Config.Dir: NAME (NAME.exe on Windows) and
// NAME.plugin.yaml, see Manifest. The directory is looked at every
// Config.ScanEvery. A new or changed pair is started; when the new generation
// has answered and is healthy it takes over, and the old one is drained: its
// tasks end, what they had already produced is delivered, and Execute returns
// ErrInterrupted, upon which the caller executes again from its last cursor.
// A pair that does not fit together, as while it is being copied, changes
// nothing: the old generation works on. Install writes a pair in the right
// order.
//
// # What is guaranteed
//
//   - Nothing is executed but bytes whose sha256 is the manifest's: they are
//     copied into a private directory while they are hashed, and the copy runs.
//   - A plugin that dies is started again with back-off and jitter; after five
//     deaths within two minutes it is left alone until its file or manifest
//     changes (a touch is enough).
//   - A plugin that hangs is killed with its process group. Run returns within
//     Config.StopTimeout and a second, whatever a plugin does.
//   - On Linux plugins go on when their host ends after Detach or dies, even by
//     kill -9: the next host of the same Config.StateDir takes them over, with
//     their process ids, and nothing of what they do is lost. What it finds is
//     checked first, down to who owns the socket; a process that is not this
//     directory's for certain is never killed.
//   - Plugins that no host takes over end after Config.OrphanAfter, also those
//     that are stopped or deadlocked: the kernel kills them 5 s later.
//   - One Manager at a time looks after the plugins of a StateDir.
//   - A plugin inherits no descriptor and no environment variable of the host
//     but PATH, HOME, TZ, LANG, LC_ALL and TMPDIR.
//
// # What is not
//
// A plugin runs as the host's user and can do what that user can: this is
// isolation from accidents, not a sandbox. Manifests are not signed yet: the
// digest protects from damaged and half-copied files, not from someone who may
// write to Config.Dir. Who may do that decides what runs, and so a directory
// or manifest that everybody can write to is refused. Resource limits are
// reserved in the manifest, not enforced.
//
// Where not Linux runs, plugins do not outlive their host: Run stops them at
// its end, Detach or not, and after a kill -9 they end after
// Config.OrphanAfter, besides those that the next host has started by then.
//
// An orphan that ends in order sends SIGTERM to what it has started; what
// ignores that, and what a plugin leaves that the kernel's timer ended, is
// killed by the next host. Under systemd a host that was killed takes its
// plugins along, unless its unit has KillMode=process.
package plugin
