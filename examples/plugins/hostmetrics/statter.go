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
// system is not asked again before it has returned. The zero value is ready.
type statter struct {
	mu      sync.Mutex
	pending map[string]time.Time // since when
}

type answer struct {
	usage usage
	err   error
}

// ask returns the answers in the order of paths.
func (t *statter) ask(paths []string) []answer {
	type numbered struct {
		n int
		answer
	}
	answers := make([]answer, len(paths))
	arrived := make(chan numbered, len(paths))
	open := 0
	for n, path := range paths {
		if since, ok := t.begin(path); !ok {
			answers[n].err = fmt.Errorf("it does not answer since %s; is its server gone?", since.UTC().Format(time.RFC3339))
			continue
		}
		answers[n].err = fmt.Errorf("it has not answered within %s; is its server gone?", statfsTimeout)
		open++
		go func() {
			u, err := statfs(path)
			t.end(path)
			arrived <- numbered{n, answer{u, err}}
		}()
	}
	late := time.NewTimer(statfsTimeout)
	defer late.Stop()
	for ; open > 0; open-- {
		select {
		case a := <-arrived:
			answers[a.n] = a.answer
		case <-late.C:
			return answers
		}
	}
	return answers
}

// begin reports false if path is being asked, and since when.
func (t *statter) begin(path string) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if since, busy := t.pending[path]; busy {
		return since, false
	}
	if t.pending == nil {
		t.pending = map[string]time.Time{}
	}
	t.pending[path] = time.Now()
	return time.Time{}, true
}

func (t *statter) end(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.pending, path)
}
