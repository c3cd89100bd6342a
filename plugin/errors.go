package plugin

import "errors"

// Errors that callers branch on, always wrapped in a sentence.
var (
	// ErrNotFound means that there is no plugin of that name.
	ErrNotFound = errors.New("no such plugin")
	// ErrNotRunning means that the plugin exists and has no running process
	// now; it may have one later.
	ErrNotRunning = errors.New("plugin is not running")
	// ErrDisabled means that an operator has disabled the plugin.
	ErrDisabled = errors.New("plugin is disabled")
	// ErrInterrupted means that the process that ran the task was replaced,
	// stopped or died before the task was complete. What was delivered before
	// is valid: execute again from the last cursor.
	ErrInterrupted = errors.New("task was interrupted")
	// ErrPermanent means that the plugin failed a task and says that no other
	// attempt, here or elsewhere, can succeed.
	ErrPermanent = errors.New("no other attempt can succeed")
	// ErrIncompatible means that a plugin's constraint excludes a host version.
	ErrIncompatible = errors.New("plugin does not fit the host's version")
	// ErrManifest means that a manifest cannot be used.
	ErrManifest = errors.New("bad plugin manifest")
	// ErrUntrusted means that a manifest's signature is missing where one is
	// required, or does not count.
	ErrUntrusted = errors.New("plugin is not trusted")
	// ErrDigest means that an executable is not the one that its manifest names.
	ErrDigest = errors.New("plugin digest differs")
)

// errRefused marks a failure that trying again cannot cure.
var errRefused = errors.New("executable and manifest disagree")

// errPeer means that a socket is not the plugin's.
var errPeer = errors.New("not the plugin's socket")
