package upgrade

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Stateful is a host program that hands what it has in memory, such as
// counters or sessions, to its successor. The bytes are its own: they are
// neither read nor kept on disk, and a release must understand those of the
// releases that it is upgraded from.
//
// The bytes are a snapshot. The incumbent serves on while the successor
// starts, and answers what it has accepted after that; what changes in it
// after SaveState stays with it: it is there after a rollback and gone after
// a commit. State that must not lose a change belongs on disk.
type Stateful interface {
	// SaveState returns what a successor is to have, at most 64 MiB; nothing
	// means that there is nothing to hand over. It is called in the incumbent
	// before a successor is started, beside whatever the program does then. An
	// error, or no return within Config.StateTimeout, ends the attempt and is
	// not held against the release.
	SaveState(ctx context.Context) ([]byte, error)
	// RestoreState takes what the incumbent has saved, before the successor
	// serves. It is not called on a cold start, nor after an incumbent that had
	// nothing to hand over. An error, or no return within Config.StateTimeout,
	// ends the successor, and the release is rolled back.
	RestoreState(ctx context.Context, state []byte) error
}

const (
	// stateLimit bounds a host's state, in bytes.
	stateLimit = 64 << 20
	// stateChunk is how much of it one frame holds: with base64 around it, a
	// frame stays below frameLimit.
	stateChunk = 512 << 10
)

// hostState announces in an offer how much state there is. It follows in
// frames of kindState once the successor's hello has asked for it: a
// successor that does not know of it would never read them, and the
// incumbent would wait for it to.
type hostState struct {
	Size int64 `json:"size"`
}

// saveState asks the host program for what a successor is to have.
func (u *Upgrader) saveState(ctx context.Context) ([]byte, error) {
	if u.cfg.State == nil {
		return nil, nil
	}
	state, err := u.callHost(u.below(ctx), "SaveState", u.cfg.State.SaveState)
	if err == nil && len(state) > stateLimit {
		err = fmt.Errorf("SaveState returned %d bytes, at most %d are handed over: keep the rest on disk", len(state), stateLimit)
	}
	if err != nil {
		return nil, fmt.Errorf("the host's state was not saved: %w", err)
	}
	return state, nil
}

// Restore gives Config.State what the incumbent has saved. Call it after
// Open and before the program serves. Where nothing was handed over it does
// nothing. After an error this process must end; the incumbent has been told
// why.
func (u *Upgrader) Restore(ctx context.Context) error {
	if u.handover == nil || u.handover.state == nil {
		return nil
	}
	state := u.handover.state
	u.handover.state = nil
	_, err := u.callHost(u.below(ctx), "RestoreState", func(ctx context.Context) ([]byte, error) {
		return nil, u.cfg.State.RestoreState(ctx, state)
	})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("the incumbent's state of %d bytes was not restored: %w", len(state), err)
	u.course.end(err)
	return u.handover.giveUp(ctx, err)
}

// callHost calls f, which belongs to the host program, and gives it up after
// StateTimeout even if it does not heed its context. Until f has returned
// there is no other call.
func (u *Upgrader) callHost(ctx context.Context, name string, f func(context.Context) ([]byte, error)) ([]byte, error) {
	if !u.inHost.CompareAndSwap(false, true) {
		return nil, fmt.Errorf("an earlier call has not returned yet: %s must heed its context", name)
	}
	limited, cancel := context.WithTimeout(ctx, u.cfg.StateTimeout)
	defer cancel()
	type result struct {
		state []byte
		err   error
	}
	done := make(chan result, 1)
	go func() {
		r := result{err: errors.New("it panicked")}
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("it panicked: %v", v)
			}
			u.inHost.Store(false)
			done <- r
		}()
		r.state, r.err = f(limited)
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return nil, fmt.Errorf("%s: %w", name, r.err)
		}
		return r.state, nil
	case <-limited.Done():
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s did not return within %v", name, u.cfg.StateTimeout)
	}
}

// sendState sends the host's state beside the watch of the successor, whose
// death would otherwise go unseen while the socket is full: this process
// holds a copy of the other end. It ends with the connection at the latest.
func (t *trial) sendState() {
	for rest := t.state; len(rest) > 0; {
		n := min(len(rest), stateChunk)
		if err := t.send(frame{Kind: kindState, Host: rest[:n]}); err != nil {
			t.sent <- fmt.Errorf("the successor did not take the host's state: %w", err)
			return
		}
		rest = rest[n:]
	}
}

// receiveState collects the state that the offer has announced.
func (h *handover) receiveState(ctx context.Context) error {
	state := make([]byte, 0, h.offer.State.Size)
	for int64(len(state)) < h.offer.State.Size {
		f, err := h.next(ctx)
		if err != nil {
			return fmt.Errorf("the host's state broke off after %d of %d bytes: %w", len(state), h.offer.State.Size, err)
		}
		switch f.Kind {
		case kindState:
			if len(f.Host) == 0 || int64(len(state)+len(f.Host)) > h.offer.State.Size {
				return fmt.Errorf("the incumbent announced %d bytes of the host's state and sends %d after %d: its release is broken, publish a fixed one", h.offer.State.Size, len(f.Host), len(state))
			}
			state = append(state, f.Host...)
		case kindAbort:
			return fmt.Errorf("%w: %s", ErrAborted, f.Reason)
		}
	}
	h.state = state
	return nil
}

// next waits for one more frame of a greeting.
func (h *handover) next(ctx context.Context) (frame, error) {
	limit := time.NewTimer(offerTimeout)
	defer limit.Stop()
	select {
	case m := <-h.in:
		return m.frame, m.err
	case <-limit.C:
		return frame{}, fmt.Errorf("nothing from the incumbent within %v: see whether it still runs", offerTimeout)
	case <-ctx.Done():
		return frame{}, ctx.Err()
	}
}

// giveUp tells the incumbent why this successor ends, unless it was told to,
// and returns err. An incumbent that does not know the kind sees the end
// alone, and has the log.
func (h *handover) giveUp(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		_ = h.send(frame{Kind: kindFailed, Reason: printable(err.Error(), reasonBytes)})
	}
	return err
}

// gaveUp is a successor that has said why it ends.
func gaveUp(f frame) *failure {
	return &failure{class: BadBinary, reason: "the successor gave up: " + printable(f.Reason, reasonBytes)}
}
