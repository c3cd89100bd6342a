package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

const (
	// lineEvery is how often the application writes a line.
	lineEvery = 20 * time.Millisecond
	// linesPerFile is when it rotates its log.
	linesPerFile = 500
)

// appLog plays an application that the agent's host also runs: it writes
// numbered lines and rotates its log, and the plugin logtail follows.
type appLog struct {
	dir  string
	quit chan struct{}
	done chan struct{} // nil before start

	// Of the writer, until done is closed.
	lines int64
	err   error
}

// pattern leads to the log and to what it was rotated to.
func (a *appLog) pattern() string { return filepath.Join(a.dir, "app.log*") }

func (a *appLog) start() {
	a.done = make(chan struct{})
	go func() {
		defer close(a.done)
		a.err = a.write()
	}()
}

// stop ends the writing and returns the number of the last line, 0 if it was
// never begun. It is called once.
func (a *appLog) stop() (lines int64, err error) {
	close(a.quit)
	if a.done == nil {
		return 0, nil
	}
	<-a.done
	return a.lines, a.err
}

func (a *appLog) write() error {
	tick := time.NewTicker(lineEvery)
	defer tick.Stop()
	path := filepath.Join(a.dir, "app.log")
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		for range linesPerFile {
			if _, err := fmt.Fprintf(f, "line %d\n", a.lines+1); err != nil {
				_ = f.Close()
				return err
			}
			a.lines++
			select {
			case <-tick.C:
			case <-a.quit:
				return f.Close()
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, a.lines)); err != nil {
			return err
		}
	}
}
