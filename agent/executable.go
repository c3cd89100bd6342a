package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/perennial-go/perennial/agent/fingerprint"
	"github.com/perennial-go/perennial/internal/ctxio"
	"github.com/perennial-go/perennial/upgrade"
)

// executable tells what bytes this process runs. Its slot's record says what was
// verified when the release was installed; whoever has replaced the file since
// has not changed that.
type executable struct {
	digest atomic.Pointer[string] // nil until it is measured
}

// of is the digest of what runs, in hex: as it is recorded until it is measured.
func (e *executable) of(running upgrade.Ref) string {
	if measured := e.digest.Load(); measured != nil {
		return *measured
	}
	return running.Binary
}

// measure reads the executable once: what a process runs stays the same, whatever
// becomes of its file. It begins when the process is in charge, so as to delay no
// start, and is worth a second registration only where it differs.
func (a *Agent) measure(ctx context.Context) error {
	if runningExecutable == "" {
		return nil
	}
	digest, err := digestOf(ctx, runningExecutable)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("the executable that runs could not be measured: what is told of it is what was installed", "error", err)
		}
		return nil //nolint:nilerr // it is no reason to end the agent
	}
	a.executable.digest.Store(&digest)
	if digest != a.upgrader.Running().Binary {
		a.log.Error("the executable that runs is not the one that was installed: somebody has replaced its file", "digest", digest, "before", a.upgrader.Running().Binary)
		a.touchSoon()
	}
	return nil
}

// installed is the digest in hex of the executable that was installed; "" = s does
// not tell it of the release that is registered: the registration is written first,
// and may be of the next one. The version is the executable's own word, and goes
// for the release only where nothing else does.
func (r *Registration) installed(s *upgrade.Status) string {
	running := s.Running
	if running.Manifest != r.ManifestDigest || running.Manifest == "" && running.Version != r.Version {
		return ""
	}
	return running.Binary
}

// exchanged reports whether other bytes run than were installed.
func (r *Registration) exchanged(s *upgrade.Status) bool {
	installed := r.installed(s)
	return installed != "" && r.BinaryDigest != "" && installed != r.BinaryDigest
}

// digestOf returns the SHA-256 of a file in hex.
func digestOf(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, ctxio.Reader(ctx, f)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// lookAround finds out once what the agent runs on. Nothing waits for it: a
// registration that is written before is written again.
func (a *Agent) lookAround(ctx context.Context) error {
	if a.cfg.Fingerprint.Off {
		return nil
	}
	found := fingerprint.Probe(ctx, a.cfg.Fingerprint)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // the agent ends, and what was found may be half of it
	}
	if len(found.Unknown) > 0 {
		a.log.Info("not all of what the agent runs on could be found out", "reason", strings.Join(found.Unknown, "; "))
	}
	a.around.Store(&found)
	a.touchSoon()
	return nil
}
