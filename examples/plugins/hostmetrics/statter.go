package main

import (
	"fmt"
	"sync"
	"time"
)

// statfsTimeout is how long file systems may take to answer.
const statfsTimeout = time.Second

// statter asks file systems how full they are. One whose server is gone may
// never answer, and the call cannot be ended: it is left alone, and its file
// system is not asked again before it has returned. Whoever asks meanwhile gets
// the same answer. The zero value is ready.
type statter struct {
	mu      sync.Mutex
	pending map[string]*call
}

type answer struct {
	usage usage
	err   error
}

// call is one that has not returned yet, or did so just now.
type call struct {
	since time.Time
	done  chan struct{} // closed once there is an answer
	answer
}

// ask returns the answers in the order of paths.
func (t *statter) ask(paths []string) []answer {
	now := time.Now()
	calls := make([]*call, len(paths))
	for n, path := range paths {
		calls[n] = t.call(path)
	}
	late := make(chan struct{})
	timer := time.AfterFunc(statfsTimeout, func() { close(late) })
	defer timer.Stop()
	answers := make([]answer, len(paths))
	for n, c := range calls {
		answers[n] = c.wait(now, late)
	}
	return answers
}

// call returns the call that asks path: that which is under way, if there is one.
func (t *statter) call(path string) *call {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c, busy := t.pending[path]; busy {
		return c
	}
	if t.pending == nil {
		t.pending = map[string]*call{}
	}
	c := &call{since: time.Now(), done: make(chan struct{})}
	t.pending[path] = c
	go func() {
		c.usage, c.err = statfs(path)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.pending, path)
		close(c.done)
	}()
	return c
}

// wait waits until it is late; not at all for a call that others have waited for
// in vain.
func (c *call) wait(now time.Time, late <-chan struct{}) answer {
	select {
	case <-c.done:
		return c.answer
	default:
	}
	if now.Sub(c.since) >= statfsTimeout {
		return answer{err: fmt.Errorf("it does not answer since %s; is its server gone?", c.since.UTC().Format(time.RFC3339))}
	}
	select {
	case <-c.done:
		return c.answer
	case <-late:
		return answer{err: fmt.Errorf("it has not answered within %s; is its server gone?", statfsTimeout)}
	}
}
