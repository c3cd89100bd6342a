package upgrade

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	// lookTimeout bounds one look at the index.
	lookTimeout = 2 * time.Minute
	// firstLook is within this time after the start.
	firstLook = time.Minute
)

// watch looks at the index from time to time until ctx ends, and tells Run
// when the release that runs is withdrawn, or offered again, or its key revoked.
// It decides nothing, and a repository that is away changes nothing but its own pace.
func (u *Upgrader) watch(ctx context.Context) {
	every := u.cfg.CheckEvery
	if u.client == nil || every < 0 {
		return
	}
	retry := backoff.Backoff{Min: every / 16, Max: every}
	pause := backoff.Jitter(min(firstLook, every)/2, 1) // a fleet does not start to ask at once
	trouble := ""
	for backoff.Sleep(ctx, pause) == nil {
		err := u.look(ctx)
		if ctx.Err() != nil {
			return
		}
		trouble = u.toldTrouble(trouble, err)
		if err != nil {
			pause = retry.Next()
		} else {
			retry.Reset()
			pause = backoff.Jitter(every, 0.2)
		}
		// Also after a failure: a keyring that was accepted may be why, and what
		// a cache has kept tells something.
		select {
		case u.looked <- struct{}{}:
		default: // Run has yet to hear of the look before, and will of this one
		}
	}
}

// look has the client accept the index of the repository itself, whatever a
// cache has kept: only so is it noticed that a release was withdrawn, or its key
// revoked, before the kept index expires.
func (u *Upgrader) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	_, err := u.client.FreshIndex(ctx)
	return err
}

// withdrawn returns why x calls ref withdrawn, "" if it offers ref, and whether
// it lists ref at all. It goes by the version where that was installed by other
// means, without a manifest.
func withdrawn(x *release.Index, ref Ref) (why string, listed bool) {
	for _, e := range x.Releases {
		if e.Version == ref.Version && (ref.Manifest == "" || ref.Manifest == e.Pin().Digest) {
			if e.Yanked == "" {
				return "", true
			}
			// Whoever signed the index may have written anything.
			return cmp.Or(sentence(e.Yanked), noReason), true
		}
	}
	return "", false
}

// toldTrouble logs that the index cannot be looked at, or can be again, each
// once, and returns which it is.
func (u *Upgrader) toldTrouble(before string, err error) (now string) {
	switch {
	case errors.Is(err, release.ErrUntrusted), errors.Is(err, release.ErrReplay):
		now = "untrusted"
	case errors.Is(err, release.ErrExpired):
		now = "expired"
	case err != nil:
		now = "away"
	}
	switch {
	case now == before:
	case err != nil:
		u.log.Warn("the index cannot be looked at, so that nobody would hear if the running release were withdrawn", "error", err)
	default:
		u.log.Info("the index can be looked at again")
	}
	return now
}

// heard takes note of what is withdrawn, by the index that was accepted last, and
// of the keys that are revoked, by the keyring.
func (u *Upgrader) heard() {
	before := u.known
	u.note()
	revoked := u.hearRevoked()
	why := withdrawnOf(u.known, u.running.Ref)
	if why == u.yanked {
		if revoked || !slices.Equal(before, u.known) {
			u.publish(func(*Status) {})
		}
		return
	}
	if u.yanked = why; why != "" {
		u.log.Warn("the running release was withdrawn: upgrade to another", "release", u.running.Version, "reason", why)
	} else {
		u.log.Info("the running release is offered again", "release", u.running.Version)
	}
	u.publish(func(s *Status) { s.Yanked = why })
}
