package etcdkv

import "time"

// SetStaleness shortens the times after which a silent watch is given up.
func (w *Watch) SetStaleness(progressEvery, staleAfter time.Duration) {
	w.progressEvery, w.staleAfter = progressEvery, staleAfter
}
