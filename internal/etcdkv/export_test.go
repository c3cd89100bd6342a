package etcdkv

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// SetStaleness shortens the times after which a silent watch is given up.
func (w *Watch) SetStaleness(quiet, answerWithin time.Duration) {
	w.quiet, w.answerWithin = quiet, answerWithin
}

// SetPatience shortens the times that answers of a listing are waited for.
func (w *Watch) SetPatience(first, most time.Duration) { w.listTimeout, w.listTimeoutMax = first, most }

// SetSpread shortens the waits before a watch lists anew, or puts them off.
func (w *Watch) SetSpread(spread, retryMax, oversizeMax time.Duration) {
	w.spread, w.retryMax, w.oversizeMax = spread, retryMax, oversizeMax
}

// ReconnectMin and ReconnectMax bound the waits between attempts to connect.
const (
	ReconnectMin = reconnectMin
	ReconnectMax = reconnectMax
)

// SetReconnect shortens the waits between attempts to connect.
func SetReconnect(cfg *ClientConfig, least, most time.Duration) {
	cfg.reconnect = reconnect{least, most}
}

// SetCallTimeout shortens the time after which a call of c ends whose caller
// sets none.
func SetCallTimeout(c *clientv3.Client, d time.Duration) { linkOf(c).limit = d }

// LookAtFiles does now what is else done every 10 s.
func LookAtFiles(c *clientv3.Client) { c.Lease.(*explainedLease).certs.material() }

// SetGrantTimeout shortens the time that a grant is waited for at first.
func (s *Session) SetGrantTimeout(d time.Duration) { s.grantTimeout = d }

// Shift has this host's clock be ahead by d.
func (c *Clock) Shift(d time.Duration) { c.now = func() time.Time { return time.Now().Add(d) } }
