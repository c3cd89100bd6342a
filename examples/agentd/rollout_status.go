package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/agentd/internal/rolloutview"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// rolloutStatus is how a rollout stands, as -o json prints it.
type rolloutStatus struct {
	Fleet    string          `json:"fleet"`
	Revision int64           `json:"revision"`
	Plan     *rollout.Plan   `json:"plan"` // null: there is none
	Books    *rollout.Books  `json:"books,omitempty"`
	Freeze   *rollout.Freeze `json:"freeze,omitempty"`
	Leader   *rollout.Leader `json:"leader,omitempty"`
	// Trouble is what keeps it from moving on.
	Trouble string              `json:"trouble,omitempty"`
	Stages  []rolloutview.Stage `json:"stages,omitempty"`
	// Cause is why it went back or was ended.
	Cause string `json:"cause,omitempty"`
	// Stale is why what is shown may be old.
	Stale string `json:"stale,omitempty"`
}

// newRolloutStatus puts together what is known.
func newRolloutStatus(fleet string, v rollout.View, members []*rollout.Member, stale error) (rolloutStatus, error) {
	s := rolloutStatus{Fleet: fleet, Revision: v.Revision, Plan: v.Plan, Books: v.Books, Freeze: v.Freeze, Leader: v.Leader, Trouble: v.Trouble}
	if stale != nil {
		s.Stale = stale.Error()
	}
	var err error
	if v.Plan != nil {
		s.Stages, _, err = rolloutview.Stages(v.Plan, members)
	}
	return s, err
}

// model is it for people.
func (s *rolloutStatus) model(now time.Time) *rolloutview.Model {
	m := &rolloutview.Model{Plan: s.Plan, Freeze: s.Freeze, Stages: s.Stages, Cause: s.Cause, Trouble: s.Trouble, Stale: s.Stale, Now: now}
	if b := s.Books; b != nil && b.Rollout == s.Plan.ID {
		m.Figures, m.Lost, m.Waits = b.Figures, b.Lost, b.Waits
	} else {
		for i := range s.Stages { // no controller has counted them yet
			m.Figures.Agents += len(s.Stages[i].Members)
		}
	}
	if s.Leader != nil {
		m.Leader = s.Leader.ID
	}
	return m
}

// text is what is shown on a terminal of that width.
func (s *rolloutStatus) text(now time.Time, width int) []string {
	if s.Plan != nil {
		return s.model(now).Text(width)
	}
	leader := ""
	if s.Leader != nil {
		leader = s.Leader.ID
	}
	lines := []string{fmt.Sprintf("fleet %s has no rollout", s.Fleet), rolloutview.Led(leader)}
	if s.Freeze != nil {
		lines = append(lines, rolloutview.Frozen(s.Freeze))
	}
	return lines
}

func newRolloutStatusCommand() *cobra.Command {
	var flags rolloutFlags
	var watch bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show how the rollout of a fleet stands",
		Long: `status shows the plan that the fleet follows: its state and why, how far each stage is
(# has changed, ! has failed, > is under way), the figures that it is judged on, and the
agents that were lost. What has ended is shown until the next begins.

With --watch it stays until the rollout has ended, or was halted, which waits for a
person, and shows it live on a terminal; else it prints a line whenever something has
changed, at most one a second, and with -o json all of it in one line each time. An
interrupt ends it with exit code 0.

` + rolloutExits + `
Without --watch 0 means that it was shown.`,
		Example: `  agentd rollout status --etcd http://127.0.0.1:2379
  agentd rollout status --etcd http://127.0.0.1:2379 --watch`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if wait < 0 || wait > 0 && !watch {
				return usagef("--wait is how long to --watch: want both, and a duration such as 1h, found %v", wait)
			}
			op, err := flags.open()
			if err != nil {
				return err
			}
			defer op.close()
			if watch {
				return op.watch(cmd, wait)
			}
			return op.show(cmd)
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "stay, and show what changes, until the rollout has ended or was halted")
	cmd.Flags().DurationVar(&wait, "wait", 0, "how long to watch at most; default until the rollout has ended")
	return cmd
}

// show prints how the rollout stands now.
func (o *fleetOperator) show(cmd *cobra.Command) error {
	v, err := o.status(cmd.Context())
	if err != nil {
		return err
	}
	var members []*rollout.Member
	var unread error
	if v.Plan != nil {
		entries, err := o.entries(cmd.Context())
		unread = err
		members = membersOf(entries, o.flags.fleet)
	}
	s, err := newRolloutStatus(o.flags.fleet, v, members, unread)
	if err != nil {
		return err
	}
	if v.Plan != nil {
		cause, err := o.cause(cmd.Context(), v.Plan)
		s.Cause, unread = cause, errors.Join(unread, err)
	}
	if o.flags.output.json() {
		return errors.Join(printJSON(cmd.OutOrStdout(), s), unread)
	}
	return errors.Join(printLines(cmd.OutOrStdout(), s.text(time.Now(), plainWidth)), unread)
}

// plainWidth is that of what is no terminal.
const plainWidth = 100

func printLines(w io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}
