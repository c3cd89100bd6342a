package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// startLimit bounds the start of any program, on a machine that is busy.
const startLimit = 60 * time.Second

// server is a program and, if it replaces itself, those that follow it: they
// all share a process group that nothing else is in.
type server struct {
	url   string
	log   string // the file that they write to
	spool string // the directory of the records, if it takes any
	cmd   *exec.Cmd
	ended chan struct{}
}

// launch starts a program and waits until it writes a line that begins with
// announce and ends with where it serves.
func (b *bench) launch(ctx context.Context, announce, binary string, args ...string) (*server, error) {
	b.sequence++
	path := filepath.Join(b.dir, fmt.Sprintf("%s-%d.log", filepath.Base(binary), b.sequence))
	log, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	s := &server{log: path, cmd: exec.CommandContext(ctx, binary, args...), ended: make(chan struct{})}
	// A file, not a pipe: it outlives every process that writes to it.
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = ownGroup()
	s.cmd.Cancel = func() error { return endGroup(s.cmd.Process.Pid) }
	if err := errors.Join(s.cmd.Start(), log.Close()); err != nil {
		return nil, err
	}
	b.servers = append(b.servers, s)
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // how it ended is in its log
	}()
	err = until(ctx, filepath.Base(binary)+" serves", startLimit, func() bool {
		s.url = s.announced(announce)
		return s.url != "" || s.dead()
	})
	if err == nil && s.url == "" {
		err = fmt.Errorf("%s ended at its start", filepath.Base(binary))
	}
	if err != nil {
		return nil, fmt.Errorf("%w; it wrote: %s", err, s.written(0))
	}
	return s, nil
}

func (s *server) announced(prefix string) string {
	for line := range strings.Lines(string(s.written(0))) {
		if after, ok := strings.CutPrefix(line, prefix); ok && strings.HasSuffix(line, "\n") {
			return strings.TrimSpace(after)
		}
	}
	return ""
}

func (s *server) dead() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

// written is the log from offset on.
func (s *server) written(offset int64) []byte {
	data, err := os.ReadFile(s.log)
	if err != nil {
		return []byte(err.Error())
	}
	return data[min(offset, int64(len(data))):]
}

// startedSuccessor finds the line that a process writes right before it
// starts its successor.
func (s *server) startedSuccessor(offset int64) (time.Time, error) {
	for line := range bytes.Lines(s.written(offset)) {
		var l struct {
			Time       time.Time
			Msg, State string
		}
		if json.Unmarshal(line, &l) == nil && l.Msg == "upgrade" && l.State == "starting" {
			return l.Time, nil
		}
	}
	return time.Time{}, fmt.Errorf("the log does not say that a successor was started: %s", s.written(offset))
}

// stop ends the whole group and waits for it. It may be called again.
func (s *server) stop() error {
	pid := s.cmd.Process.Pid
	if !groupAlive(pid) {
		return nil
	}
	if err := endGroup(pid); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ctx := context.Background() // the processes are to go, whatever has ended
	err := until(ctx, "the processes end", 20*time.Second, func() bool { return !groupAlive(pid) })
	if err == nil {
		return nil
	}
	return errors.Join(err, killGroup(pid))
}
