package main

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin/dispatch"
)

// shownPayload is how much of a payload is shown as text, in bytes.
const shownPayload = 2 << 10

func newTaskShowCommand() *cobra.Command {
	var q queueFlags
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show a task with its history",
		Long: `show tells all that is known of a task: what it asks for, where it is, why it
waits, and how its runs went. -o json has its whole payload, in base64.`,
		Example: "  agentd task show --etcd http://127.0.0.1:2379 01jx2m",
		Args:    takes("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			queue, err := q.open()
			if err != nil {
				return err
			}
			defer queue.close()
			info, err := queue.get(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if q.output.json() {
				return printJSON(cmd.OutOrStdout(), info)
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), describeTask(info, time.Now()))
			return err
		},
	}
	q.add(cmd)
	return cmd
}

// describeTask puts a task into words.
func describeTask(t dispatch.Info, now time.Time) string {
	var b strings.Builder
	say := func(format string, args ...any) { b.WriteString(printable(fmt.Sprintf(format, args...)) + "\n") }
	say("Task %s: %s, since %s ago.", t.ID, placeOf(t), age(now, t.Since))
	if why := whyOf(t); why != "" && why != t.Error {
		say("Why: %s", why)
	}
	say("Asks for: %s%s.", whatOf(t.Task), versionOf(t.Task))
	say("Agents: %s. Policy: %s%s.", cmp.Or(t.Selector, "all"), t.Policy, bracketed(t.Key))
	if t.Parent != "" {
		say("Run of %s, on %s.", t.Parent, t.Pinned)
	}
	if r := t.Runs; r != nil {
		say("Runs: %d; succeeded: %d, dead: %d, cancelled: %d, expired: %d.", r.Total, r.Succeeded, r.Dead, r.Cancelled, r.Expired)
	}
	say("Submitted: %s by %s. Priority: %d.", stamp(t.Submitted), dash(t.SubmittedBy), t.Priority)
	say("Not before: %s. Deadline: %s. Time for a run: %s.", stamp(t.NotBefore), stamp(t.Deadline), duration(t.Timeout))
	say("Runs that failed: %d, of which %d may. Agents that were lost: %d.%s", t.Failures, max(t.Retry.Max, 0)+1, t.Losses, next(t, now))
	for _, a := range t.Attempts {
		say("  %d on %s: %s after %s%s", a.Number, a.Agent, a.Ended, duration(a.Finished.Sub(a.Assigned).Round(time.Millisecond)), ended(a.Error))
	}
	if t.Error != "" {
		say("Error: %s", t.Error)
	}
	if t.State.Finished() {
		say("Results: %d, %s%s.", t.Results, mebibytes(t.ResultBytes), map[bool]string{true: ", and more that were too large"}[t.Cut])
	} else {
		say("Results: counted at its end; agentd task results %s prints those that there are.", t.ID)
	}
	if !t.Expires.IsZero() {
		say("Kept until %s.", stamp(t.Expires))
	}
	if t.IdempotencyKey != "" {
		say("Idempotency key: %s", t.IdempotencyKey)
	}
	say("Payload: %s", payloadOf(t.Payload))
	return b.String()
}

func versionOf(t dispatch.Task) string {
	if t.Version == "" {
		return ""
	}
	return " of version " + t.Version
}

func bracketed(text string) string {
	if text == "" {
		return ""
	}
	return " (" + text + ")"
}

func ended(text string) string {
	if text == "" {
		return "."
	}
	return ": " + text
}

func next(t dispatch.Info, now time.Time) string {
	if t.Next.IsZero() || !t.Next.After(now) {
		return ""
	}
	return " Next run: in " + t.Next.Sub(now).Round(time.Second).String() + " at the earliest."
}

func duration(d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return d.String()
}

func payloadOf(p []byte) string {
	switch {
	case len(p) == 0:
		return "-"
	case !utf8.Valid(p):
		return fmt.Sprintf("%d bytes that are no text", len(p))
	case len(p) > shownPayload:
		return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(string(p[:shownPayload]), ""), len(p))
	}
	return string(p)
}
