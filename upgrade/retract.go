package upgrade

import "errors"

// Unbegun says why an attempt ended before a successor was started, where that
// tells nothing of the release: the same may be asked for again.
type Unbegun string

// Why an attempt was not begun.
const (
	// UnbegunRetracted: whoever asked has taken it back; see Upgrader.Retract.
	UnbegunRetracted Unbegun = "retracted"
	// UnbegunStopped: the agent was told to stop.
	UnbegunStopped Unbegun = "stopped"
)

var errRetracted = errors.New("taken back by whoever had asked before a successor was started")

// Retract takes back the request called id, unless a successor is being started
// for it: one that waits in line is forgotten, and one that is performed ends as
// Failed, with Attempt.Unbegun, within HealthEvery as a rule. It does not wait for
// that. What is asked for again under the same id is performed anew.
func (u *Upgrader) Retract(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if id == "" {
		return
	}
	if u.pending != nil && u.pending.ID == id {
		u.pending = nil
	}
	u.retracted = u.retracted || id == u.inHand && !u.starts
}

// wanted returns errRetracted where the request that is performed was taken back.
// With start it cannot be any more where it was not.
func (u *Upgrader) wanted(start bool) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.retracted {
		return errRetracted
	}
	u.starts = u.starts || start
	return nil
}

// hold notes which request is performed; "" = none. The caller holds the lock.
func (u *Upgrader) hold(id string) { u.inHand, u.retracted, u.starts = id, false, false }
