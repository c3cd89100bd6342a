// Package plugin finds, checks, starts, supervises and replaces plugins:
// executables that sit in one directory, each beside a manifest, and talk
// gRPC to the host over a private Unix socket (hashicorp/go-plugin).
//
// # The directory
//
// A plugin NAME is two files in Config.Dir: the executable NAME (NAME.exe on
// Windows) and NAME.plugin.yaml, see Manifest; besides, if it is signed,
// NAME.plugin.yaml.minisig. The system tells of changes there; every
// Config.ScanEvery the directory is looked at besides, for what it does not
// tell. Install writes the files in the right order.
//
// A new or changed plugin is started. Once the new generation has answered and
// is healthy it takes over: new calls go to it, those on the old one that are
// Resumable end with ErrInterrupted, upon which the caller executes again from
// its last cursor, and others may finish within Config.DrainTimeout. A new
// generation that cannot be used, does not start or is not healthy changes
// nothing: the old one works on, and Status.Reason says why. Files that do not
// fit together are judged again until they have not changed for Config.Settle:
// they may still be being copied.
//
// Refused, each with its reason in Status: a symbolic link to anything but a
// name in the directory itself; what is not a regular file; a directory or file
// that its group or everybody can write to, or that belongs to another user
// than root and the host's; an executable without a manifest, or not
// executable, or larger than 1 GiB; a digest, name, version or capability that
// is not the manifest's; a protocol or a constraint on the host's version that
// does not fit; a signature that does not count, or is missing where
// Config.RequireSigned wants one.
//
// # States
//
// discovered → starting → running ⇄ degraded, and from each of these: backoff
// (it died, and is started again), quarantined (it died too often), refused
// (its files cannot be used), disabled (an operator wants none), draining,
// stopped.
//
// # What is guaranteed
//
//   - Nothing is executed but bytes whose sha256 is the manifest's: they are
//     copied into a private directory while they are hashed, and the copy is
//     executed through the descriptor by which it was read.
//   - A plugin that dies is started again after 1 s, doubling to 2 min, with
//     jitter, and after 1 s again once it has run for 5 min; after five deaths
//     or failed starts within 10 min it is left alone until its file or
//     manifest changes (a touch is enough) or it is restarted. All of this can
//     be set in Config. Who hands it over or dies does not tell the next host
//     of earlier deaths. A shortage of the machine, such as a full disk, is no
//     failed start of the plugin's: it is tried again for as long as it lasts.
//   - What an operator has disabled stays off, also under the next host.
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
// isolation from accidents, not a sandbox. Without signatures, whoever may
// write to Config.Dir decides what runs: the digest protects from damaged and
// half-copied files. With them that person can still choose among all that the
// key has ever signed, older versions included, and remove plugins. The
// directories above Config.Dir are not looked at: who can rename them can
// replace it. A file that is overwritten in place while it is copied is
// refused or taken whole; a key that is revoked stops what runs by it within
// Config.ScanEvery.
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
