package etcdkv

import "time"

// SetStaleness shortens the times after which a silent watch is given up.
func (w *Watch) SetStaleness(progressEvery, staleAfter time.Duration) {
	w.progressEvery, w.staleAfter = progressEvery, staleAfter
}

// SetSpread shortens the waits before a watch lists anew, or puts them off.
func (w *Watch) SetSpread(spread, retryMax, oversizeMax time.Duration) {
	w.spread, w.retryMax, w.oversizeMax = spread, retryMax, oversizeMax
}
