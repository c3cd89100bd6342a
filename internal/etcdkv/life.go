package etcdkv

import (
	"sync"
	"time"
)

// life is what is known about how a Watch fares.
type life struct {
	mu    sync.Mutex
	heard time.Time
}

// Heard returns when etcd last answered this watch, by the local clock at the
// receipt: with a listing, an event or a sign of life, which is asked for
// every 15 s. Zero means never. A time long past means that the view may be
// old, whatever etcd says to others. It may be called concurrently.
func (w *Watch) Heard() time.Time { return w.life.heardAt() }

func (l *life) hear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = time.Now()
}

func (l *life) heardAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard
}
