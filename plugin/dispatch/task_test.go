package dispatch

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestTaskThatNobodyCouldEverDoIsRefusedAtOnce, with what is wrong with it: in
// the queue it would wait for ever.
func TestTaskThatNobodyCouldEverDoIsRefusedAtOnce(t *testing.T) {
	if _, err := (Task{Plugin: "disk-check", Capability: "run.fast_1"}).normal(); err != nil {
		t.Fatal(err)
	}
	tomorrow := time.Now().Add(24 * time.Hour)
	for says, task := range map[string]Task{
		"neither":                {},
		`plugin "Greeter"`:       {Plugin: "Greeter"},
		`plugin "greeter.2"`:     {Plugin: "greeter.2"},
		`plugin "a\nb"`:          {Plugin: "a\nb"},
		`capability "Greet"`:     {Capability: "Greet"},
		`capability "a/b"`:       {Capability: "a/b"},
		`capability "\x1b[31m"`:  {Capability: "\x1b[31m"},
		`id "../x"`:              {Plugin: "p", ID: "../x"},
		`version ">>1"`:          {Plugin: "p", Version: ">>1"},
		`selector "a b"`:         {Plugin: "p", Selector: "a b"},
		`policy "some"`:          {Plugin: "p", Policy: "some"},
		"without a key":          {Plugin: "p", Policy: Rendezvous},
		`key "k" with policy`:    {Plugin: "p", Key: "k"},
		"priority 1001":          {Plugin: "p", Priority: MaxPriority + 1},
		"101 retries":            {Plugin: "p", Retry: Retry{Max: MaxRetries + 1}},
		"back-off":               {Plugin: "p", Retry: Retry{MinBackoff: 2, MaxBackoff: 1}},
		"timeout":                {Plugin: "p", Timeout: -1},
		"want the deadline":      {Plugin: "p", NotBefore: tomorrow, Deadline: tomorrow},
		"payload of":             {Plugin: "p", Payload: make([]byte, MaxPayload+1)},
		"without control charac": {Plugin: "p", SubmittedBy: "a\x1b"},
	} {
		if _, err := task.normal(); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), says) {
			t.Errorf("want ErrInvalid that says %s, found %v", says, err)
		}
	}
}
