package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// What is no answer is told from "nothing is incompatible" by its exit code, in
// JSON as in text.
func TestConflictsThatCannotBeToldSayWhyAndWhatToDo(t *testing.T) {
	host, script := binary(t, "1.0.0"), writeFile(t, "#!/bin/sh\n")
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"module that nobody has": {[]string{host, host, "--module", "google.golang.org/grcp"}, []string{"--module", "google.golang.org/grcp", "in neither"}},
		"file that is not of Go": {[]string{host, script}, []string{"what " + script + " was built of"}},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"release", "conflicts"}, c.args...)
			agentd(t, args...).fails(t, 3, c.says...)
			r := agentd(t, append(args, "-o", "json")...)
			r.fails(t, 3, c.says...)
			var told struct {
				Host, Plugin struct{ Name string }
				Conflicts    []any
				Undecided    string
			}
			if err := json.Unmarshal([]byte(r.stdout), &told); err != nil || told.Host.Name != host || told.Plugin.Name != c.args[1] || told.Conflicts == nil || !strings.Contains(told.Undecided, c.says[0]) {
				t.Errorf("%v, %+v of\n%s", err, told, r.stdout)
			}
		})
	}
	// The protocol itself is out of this tree, in which it has no version.
	agentd(t, "release", "conflicts", host, host, "--module", "github.com/perennial-go/perennial").fails(t, 3, "-buildvcs=true", "--module")
	agentd(t, "release", "conflicts", host, host, "--module", "google.golang.org/grpc").ok(t)
}
