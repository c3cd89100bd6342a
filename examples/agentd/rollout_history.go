package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/rollout"
)

func newRolloutHistoryCommand() *cobra.Command {
	var flags rolloutFlags
	var limit int
	cmd := &cobra.Command{
		Use:   "history [ROLLOUT]",
		Short: "Tell who did what in the rollouts of a fleet, when and why",
		Long: `history prints the records of the rollouts that are kept, which are 20, the newest
rollout first, or of ROLLOUT: who did what, when, why, and the figures that it was
decided on. Each record is written together with what it tells of and names the
digest of the one before; the command checks that none is missing and none was changed.
"agentd rollout history freeze" has those of the brake: who froze and unfroze the fleet.
-o json has all that a record says, and the whole plan in the first of each rollout.

Exit code 0 means that the records are whole, 1 also that one is missing or was
changed; those that there are have been printed then.`,
		Example: "  agentd rollout history --etcd http://127.0.0.1:2379 --limit 1",
		Args:    between(0, "ROLLOUT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 0 {
				return usagef("--limit: want 0 or more, found %d", limit)
			}
			opts := rollout.HistoryOptions{Limit: limit}
			if len(args) > 0 {
				opts.Rollout = args[0]
			}
			op, err := flags.open()
			if err != nil {
				return err
			}
			defer op.close()
			all := []rollout.Past{}
			err = flags.etcd.ask(cmd.Context(), func(ctx context.Context) error {
				found, err := op.History(ctx, opts)
				all = append(all[:0], found...)
				return err
			})
			if err != nil && !errors.Is(err, rollout.ErrHistory) {
				return err
			}
			if opts.Rollout != "" && len(all) == 0 {
				return errors.Join(fmt.Errorf("fleet %s: want the history of rollout %s, found none: agentd rollout history lists those that are kept", flags.fleet, oneLine(opts.Rollout)), err)
			}
			if flags.output.json() {
				return errors.Join(printJSON(cmd.OutOrStdout(), all), err)
			}
			return errors.Join(printRecords(cmd.OutOrStdout(), flags.fleet, all), err)
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, "print at most this `number` of rollouts, the newest; 0 is all")
	noVariable(cmd, "limit")
	return cmd
}

// stageOf numbers a stage for people; one after the last is none.
func stageOf(past rollout.Past, stage int) string {
	if p := past.Records[0].Plan; p != nil && stage >= len(p.Stages) {
		return "-"
	}
	return fmt.Sprint(stage + 1)
}

func printRecords(w io.Writer, fleet string, all []rollout.Past) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(w, "fleet", fleet, "has had no rollout")
		return err
	}
	for i, past := range all {
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintln(w, "rollout", oneLine(past.Rollout)); err != nil {
			return err
		}
		rows := [][]string{{"SEQ", "AT", "EVENT", "BY", "STATE", "STAGE", "ADMITTED", "SUCCEEDED", "FAILED", "WHY"}}
		for _, r := range past.Records {
			f := r.Figures
			rows = append(rows, []string{
				fmt.Sprint(r.Seq), stamp(r.At), string(r.Event), dash(r.By), string(r.State), stageOf(past, r.Stage),
				fmt.Sprint(f.Admitted), fmt.Sprint(f.Succeeded), fmt.Sprint(f.Failed + f.Silent), dash(r.Why),
			})
		}
		if err := printTable(w, rows); err != nil {
			return err
		}
		if past.Broken != "" {
			if _, err := fmt.Fprintln(w, "NOT WHOLE:", oneLine(past.Broken)); err != nil {
				return err
			}
		}
	}
	return nil
}
