package upgrade

import "context"

// Request asks for the release that pin names.
type Request struct {
	// ID tells this request from others; it comes back in Status.
	ID string `json:"id,omitempty"`
	// By is who asks, for the record.
	By  string `json:"by,omitempty"`
	Pin Pin    `json:"pin"`
	// Expect is the version that must be running; empty for any.
	Expect string `json:"expect,omitempty"`
}

// Request puts r in line. A request that waits already is replaced: the
// newest wins. One that waits when a successor takes over waits there; one
// that is made after that is lost with this process. A request with the ID of
// the one that is performed changes nothing.
func (u *Upgrader) Request(r Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.ID == "" || r.ID != u.inHand {
		u.line(r)
	}
}

// line makes r the request that waits. The caller holds the lock.
func (u *Upgrader) line(r Request) {
	u.pending = &r
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

// queue puts the request in line that waited in the incumbent, nil for none.
// One that was made here is newer: the incumbent accepts nothing in probation.
func (u *Upgrader) queue(r *Request) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r != nil && u.pending == nil {
		u.line(*r)
	}
}

// waiting is the request in line, which stays there.
func (u *Upgrader) waiting() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.pending
}

// take returns the request in line, which is then in hand.
func (u *Upgrader) take() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.pending
	u.pending = nil
	if r != nil {
		u.inHand = r.ID
	}
	return r
}

// perform does what take has returned. Once it has ended, whatever its end,
// the same may be asked again.
func (u *Upgrader) perform(ctx context.Context, r Request) error {
	err := u.upgrade(ctx, r)
	u.mu.Lock()
	u.inHand = ""
	u.mu.Unlock()
	return err
}
