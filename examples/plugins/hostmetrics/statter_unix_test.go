//go:build unix

package main

import (
	"sync"
	"testing"
)

// TestTasksThatAskAtOnceAreAllAnswered: a call of another task is none that hangs.
func TestTasksThatAskAtOnceAreAllAnswered(t *testing.T) {
	paths := []string{t.TempDir(), t.TempDir()}
	var s statter
	var tasks sync.WaitGroup
	for range 16 {
		tasks.Go(func() {
			for range 200 {
				for n, a := range s.ask(paths) {
					if a.err != nil || a.usage.size == 0 {
						t.Errorf("%s: %+v", paths[n], a)
						return
					}
				}
			}
		})
	}
	tasks.Wait()
}
