package sdk

import (
	"strconv"
	"sync"
	"time"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// endTimeout bounds the end of a plugin that nobody stops: the host has gone,
// or SIGTERM came.
const endTimeout = 3 * time.Second

// alarmAfter is how long after the time to end in order the kernel kills.
const alarmAfter = endTimeout + 2*time.Second

// orphanLimit is how long the plugin goes on without a host. Anything but a
// positive number of seconds is taken for the default.
func orphanLimit(seconds string) time.Duration {
	n, err := strconv.ParseInt(seconds, 10, 32)
	if err != nil || n <= 0 {
		n = pluginpb.OrphanSeconds
	}
	return time.Duration(n) * time.Second
}

// hosts counts those that are attached, and calls gone once there has been none
// for limit.
type hosts struct {
	limit time.Duration
	gone  func()
	alarm *alarm
	quit  chan struct{}
	ended sync.WaitGroup

	mu       sync.Mutex
	attached int
	over     bool
	waiting  *time.Timer // runs while nobody is attached
}

// awaitHosts begins to count; nobody is attached yet.
func awaitHosts(limit time.Duration, gone func()) *hosts {
	h := &hosts{limit: limit, gone: gone, alarm: newAlarm(), quit: make(chan struct{})}
	h.alarm.set(limit + alarmAfter)
	h.waiting = time.AfterFunc(limit, h.expire)
	h.ended.Go(h.putOff)
	return h
}

func (h *hosts) attach() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return false
	}
	h.attached++
	h.waiting.Stop()
	return true
}

func (h *hosts) detach() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.attached--; h.attached == 0 && !h.over {
		h.waiting.Reset(h.limit)
		h.alarm.set(h.limit + alarmAfter)
	}
}

func (h *hosts) expire() {
	h.mu.Lock()
	h.over = h.over || h.attached == 0
	over := h.over
	h.mu.Unlock()
	if over {
		h.gone()
	}
}

// putOff keeps the kernel from killing while a host is attached and this
// process still runs.
func (h *hosts) putOff() {
	tick := time.NewTicker(h.limit / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.quit:
			return
		}
		h.mu.Lock()
		if h.attached > 0 && !h.over {
			h.alarm.set(h.limit + alarmAfter)
		}
		h.mu.Unlock()
	}
}

// close leaves the kernel's alarm as it is: what main does after Serve is
// bounded by it too.
func (h *hosts) close() {
	h.mu.Lock()
	h.over = true
	h.waiting.Stop()
	h.alarm.set(alarmAfter)
	h.mu.Unlock()
	close(h.quit)
	h.ended.Wait()
}
