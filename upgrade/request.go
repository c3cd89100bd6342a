package upgrade

// Request asks for the release that pin names.
type Request struct {
	// ID tells this request from others; it comes back in Status.
	ID string
	// By is who asks, for the record.
	By  string
	Pin Pin
	// Expect is the version that must be running; empty for any.
	Expect string
}

// Request puts r in line. A request that waits already is replaced: the
// newest wins.
func (u *Upgrader) Request(r Request) {
	u.mu.Lock()
	u.pending = &r
	u.mu.Unlock()
	select {
	case u.wake <- struct{}{}:
	default:
	}
}

func (u *Upgrader) take() *Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.pending
	u.pending = nil
	return r
}
