package etcdkv

import (
	"errors"
	"maps"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Restart is why a Watch read everything again.
type Restart string

// The reasons for a Restart.
const (
	RestartCompacted   Restart = "compacted"   // what it had not seen yet was compacted
	RestartReconnected Restart = "reconnected" // the connection had been lost
	RestartSilent      Restart = "silent"      // nothing was heard, see MaxSilence
	RestartReset       Restart = "reset"       // another cluster, or a restored one
	RestartNoLeader    Restart = "no-leader"   // the member lost its leader
	RestartTooLarge    Restart = "too-large"   // more keys than it may hold
	RestartFailed      Restart = "failed"      // all else: etcd refused or was not there
)

func restartOf(err error) Restart {
	for reason, causes := range map[Restart][]error{
		RestartCompacted:   {rpctypes.ErrCompacted},
		RestartReconnected: {errReconnected},
		RestartSilent:      {errStale},
		RestartReset:       {errReset},
		RestartNoLeader:    {rpctypes.ErrNoLeader},
		RestartTooLarge:    {ErrTooLarge, errGrown, errFlooded},
	} {
		for _, cause := range causes {
			if errors.Is(err, cause) {
				return reason
			}
		}
	}
	return RestartFailed
}

// WatchStats is what a Watch has been through since it was made.
type WatchStats struct {
	// Heard is when etcd last answered; see Watch.Heard.
	Heard time.Time
	// Events counts the changes received, Views the calls of OnChange, Folded
	// the changes that were replaced before they could be told.
	Events, Views, Folded int64
	// Restarts counts the times that everything was read again, or was tried
	// to be, by reason.
	Restarts map[Restart]int64
	// Busy is how long the call of OnChange that runs now has taken; 0 = none
	// runs.
	Busy time.Duration
}

// life is what is known about how a Watch fares.
type life struct {
	mu      sync.Mutex
	stats   WatchStats
	calling time.Time // zero = OnChange does not run
	isSlow  bool
}

// Heard returns when etcd last answered this watch, by the local clock at the
// receipt: with a listing, an event or a sign of life, which is asked for where
// there was nothing else. Zero means never. More than MaxSilence ago means that
// the view may be old, whatever etcd says to others. It may be
// called concurrently.
func (w *Watch) Heard() time.Time { return w.life.heardAt() }

// Stats returns counters for metrics. It may be called concurrently.
func (w *Watch) Stats() WatchStats {
	l := &w.life
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Restarts = maps.Clone(s.Restarts)
	if !l.calling.IsZero() {
		s.Busy = time.Since(l.calling)
	}
	return s
}

func (l *life) hear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Heard = time.Now()
}

func (l *life) heardAt() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats.Heard
}

func (l *life) restart(why Restart) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stats.Restarts == nil {
		l.stats.Restarts = map[Restart]int64{}
	}
	l.stats.Restarts[why]++
}

// receives notes that etcd was heard, with so many events.
func (l *life) receives(events int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Heard = time.Now()
	l.stats.Events += int64(events)
}

func (l *life) views() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats.Views
}

// calls notes that OnChange is called now.
func (l *life) calls(view View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calling = time.Now()
	l.stats.Views++
	l.stats.Folded += int64(view.Folded)
}

// called notes that OnChange has returned, and tells how long it took. news
// means that it is slow while changes wait, and was not the time before.
func (l *life) called(waiting func() int) (took time.Duration, news bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	took = time.Since(l.calling)
	l.calling = time.Time{}
	was := l.isSlow
	l.isSlow = took > slowCall && (was || waiting() > 0)
	return took, l.isSlow && !was
}
