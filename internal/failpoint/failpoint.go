// Package failpoint lets a crash test stop or kill a real process at a named
// step. Nothing is armed unless a test's main calls Arm: the library itself
// reads no environment variable, and an unarmed Hit is one atomic load.
package failpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	armed  atomic.Pointer[map[string]string]
	paused sync.Map // names that have paused once
)

// Arm reads a list "name=action,name=action". Actions: "kill" ends the
// process as kill -9 would; "hang" blocks for ever, having printed
// "failpoint NAME" to standard error, so that a test can act from outside;
// "pause:DIR" makes the file DIR/NAME and blocks until somebody removes it,
// the first time only; "error" makes Hit return an error.
func Arm(spec string) error {
	points := map[string]string{}
	for part := range strings.SplitSeq(spec, ",") {
		if part == "" {
			continue
		}
		name, action, ok := strings.Cut(part, "=")
		kind, dir, pauses := strings.Cut(action, ":")
		known := action == "kill" || action == "hang" || action == "error" || (pauses && kind == "pause" && dir != "")
		if !ok || !known {
			return fmt.Errorf("failpoint %q: want name=kill, name=hang, name=pause:DIR or name=error", part)
		}
		points[name] = action
	}
	paused.Clear()
	armed.Store(&points)
	return nil
}

// pause blocks as long as the file that it makes exists.
func pause(dir, name string) error {
	if _, again := paused.LoadOrStore(name, true); again {
		return nil
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	return nil
}

// Hit runs the action that is armed for name, if any.
func Hit(name string) error {
	points := armed.Load()
	if points == nil {
		return nil
	}
	action := (*points)[name]
	if dir, ok := strings.CutPrefix(action, "pause:"); ok {
		return pause(dir, name)
	}
	switch action {
	case "kill":
		p, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = p.Kill()
		}
		if err != nil {
			return err
		}
		select {}
	case "hang":
		fmt.Fprintln(os.Stderr, "failpoint", name)
		select {}
	case "error":
		return fmt.Errorf("failpoint %s", name)
	}
	return nil
}
