// Package failpoint lets a crash test stop or kill a real process at a named
// step. Nothing is armed unless a test's main calls Arm: the library itself
// reads no environment variable, and an unarmed Hit is one atomic load.
package failpoint

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
)

var armed atomic.Pointer[map[string]string]

// Arm reads a list "name=action,name=action". Actions: "kill" ends the
// process as kill -9 would; "hang" blocks for ever, having printed
// "failpoint NAME" to standard error, so that a test can act from outside;
// "error" makes Hit return an error.
func Arm(spec string) error {
	points := map[string]string{}
	for part := range strings.SplitSeq(spec, ",") {
		if part == "" {
			continue
		}
		name, action, ok := strings.Cut(part, "=")
		if !ok || (action != "kill" && action != "hang" && action != "error") {
			return fmt.Errorf("failpoint %q: want name=kill, name=hang or name=error", part)
		}
		points[name] = action
	}
	armed.Store(&points)
	return nil
}

// Hit runs the action that is armed for name, if any.
func Hit(name string) error {
	points := armed.Load()
	if points == nil {
		return nil
	}
	switch (*points)[name] {
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
