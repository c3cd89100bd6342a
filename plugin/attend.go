package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/perennial-go/perennial/internal/atomicfile"
)

const (
	// attendEvery is how often a host looks for requests.
	attendEvery = 200 * time.Millisecond
	// attendMost is how many requests are in progress at once, attendFiles how
	// many files are looked at: who fills the directory waits.
	attendMost  = 8
	attendFiles = 256
	// answerAge is how long a file lies that nobody comes back for.
	answerAge = 5 * time.Minute
)

// attendant does what others ask by files, see Ask. A request is renamed before
// it is performed, so that whoever asks can tell whether it still may be taken
// back, and no second host performs it.
type attendant struct {
	*Manager
	dir   string
	slots chan struct{}
	tasks sync.WaitGroup
}

// attend answers requests until ctx ends, and then finishes those in progress.
// Without a directory for them, nobody can ask.
func (m *Manager) attend(ctx context.Context) {
	a := &attendant{Manager: m, dir: filepath.Join(m.cfg.StateDir, askDir), slots: make(chan struct{}, attendMost)}
	if err := a.open(); err != nil {
		m.cfg.Logger.Warn("requests by files are not taken", "error", err)
		return
	}
	defer a.tasks.Wait()
	look := time.NewTicker(attendEvery)
	defer look.Stop()
	for said := ""; ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		err := a.look(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			err = errors.Join(err, os.MkdirAll(a.dir, 0o700))
		}
		if err != nil && err.Error() != said {
			m.cfg.Logger.Warn("requests by files", "error", err)
		}
		said = fmt.Sprint(err)
	}
}

// open makes the directory, and answers for what a host before this one had
// taken up when it died. Where that one had answered, the answer stands.
func (a *attendant) open() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	ids, err := a.files(takenSuffix)
	for _, id := range ids {
		if _, told := os.Lstat(filepath.Join(a.dir, id+answerSuffix)); told == nil {
			err = errors.Join(err, os.Remove(filepath.Join(a.dir, id+takenSuffix)))
			continue
		}
		err = errors.Join(err, a.answer(id, nil, errors.New("the host ended before it had done it: look with list, and ask again")))
	}
	return err
}

// files returns the ids of the files with that suffix. Answers that nobody has
// fetched are removed on the way, and what a killed process half wrote.
func (a *attendant) files(suffix string) ([]string, error) {
	d, err := os.Open(a.dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	entries, err := d.ReadDir(attendFiles)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		id, s, ok := askedID(e.Name())
		switch {
		case ok && s == suffix:
			ids = append(ids, id)
		case ok && s == answerSuffix, strings.HasPrefix(e.Name(), atomicfile.TempPrefix):
			if info, gone := e.Info(); gone == nil && time.Since(info.ModTime()) > answerAge {
				_ = os.Remove(filepath.Join(a.dir, e.Name()))
			}
		}
	}
	return ids, err
}

// look takes up what waits.
func (a *attendant) look(ctx context.Context) error {
	ids, err := a.files(waitsSuffix)
	for _, id := range ids {
		select {
		case a.slots <- struct{}{}:
		default:
			return err // at the next look
		}
		taken := filepath.Join(a.dir, id+takenSuffix)
		if os.Rename(filepath.Join(a.dir, id+waitsSuffix), taken) != nil {
			<-a.slots
			continue // it was taken back
		}
		a.tasks.Go(func() {
			defer func() { <-a.slots }()
			all, err := a.take(ctx, taken)
			if err := a.answer(id, all, err); err != nil {
				a.cfg.Logger.Warn("a request by a file is not answered", "error", err)
			}
		})
	}
	return err
}

// take reads a request and performs it.
func (a *attendant) take(ctx context.Context, path string) ([]Status, error) {
	data, err := readBounded(path, requestLimit)
	if err != nil {
		return nil, err
	}
	r, err := parseAsked(data)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be performed: %w", err)
	}
	if time.Now().After(r.Until) {
		return nil, fmt.Errorf("the request came too late: it was to be done by %s", r.Until.Format(time.RFC3339))
	}
	if r.Action != ActionList {
		a.cfg.Logger.Info("asked from outside", "action", r.Action, "plugin", r.Plugin, "reason", r.Reason, "by", r.By)
	}
	limited, cancel := context.WithDeadline(ctx, r.Until)
	defer cancel()
	err = a.perform(limited, r.Request)
	return a.List(), err
}

// perform does what is asked for.
func (a *attendant) perform(ctx context.Context, r Request) error {
	switch r.Action {
	case ActionRestart:
		return a.Restart(ctx, r.Plugin)
	case ActionDisable:
		return a.Disable(r.Plugin, r.Reason)
	case ActionEnable:
		return a.Enable(r.Plugin)
	case ActionList: // which every answer has
	}
	return nil
}

// answer leaves the answer and then removes the request.
func (a *attendant) answer(id string, all []Status, failed error) error {
	said := answer{Schema: askedSchema, Plugins: all}
	if failed != nil {
		said.Error = failed.Error()
	}
	data, err := json.Marshal(said)
	if err != nil {
		return err
	}
	path := filepath.Join(a.dir, id)
	if err := atomicfile.Write(path+answerSuffix, append(data, '\n'), 0o600); err != nil {
		return err
	}
	return os.Remove(path + takenSuffix)
}
