package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/examples/agentd/internal/settings"
)

// diagnoseFlags are those of agentd diagnose.
type diagnoseFlags struct {
	client   adminClient
	stateDir string
	file     string
}

// diagnosed is what agentd diagnose prints as JSON.
type diagnosed struct {
	Schema int    `json:"schema"`
	File   string `json:"file"`
	Bytes  int64  `json:"bytes"`
	agent.Diagnosis
}

func newDiagnoseCommand() *cobra.Command {
	var d diagnoseFlags
	cmd := &cobra.Command{
		Use:   "diagnose",
		Short: "Collect what a bug report needs into one archive, without secrets",
		Long: `diagnose asks a running agent on its admin listener, by the role operate, for
an archive (tar.gz): the newest lines of its log and of its plugins', status,
journal and other files of the state directory, configuration, metrics,
goroutines, heap, alerts, build and limits. Its index.json says what each file
is, and what could not be had and why. It has at most 32 MiB before compression.

With --state-dir no agent is asked: the archive is made from the disk alone, for
an agent that does not run.

What is known to be secret, or looks like it, is left out. Look through the
archive all the same before it goes to strangers. The file gets mode 0600, and
is there only if it is whole.`,
		Example: `  agentd diagnose --address unix:/run/agentd/admin.sock --file a1.tar.gz
  agentd diagnose --state-dir /var/lib/agentd`,
		Args: takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return d.run(cmd, output) }
	d.client.add(cmd)
	cmd.Flags().StringVar(&d.stateDir, "state-dir", "", "state `directory` of an agent that does not run, instead of asking one")
	cmd.Flags().StringVarP(&d.file, "file", "f", "", "`file` to write; default agentd-diagnosis-TIME.tar.gz here")
	return cmd
}

func (d *diagnoseFlags) run(cmd *cobra.Command, output *format) error {
	if d.stateDir != "" && (cmd.Flags().Changed("address") || d.client.tokenFile != "") {
		return usagef("--state-dir asks no agent, so that --address and --token-file are for nothing: give one or the other")
	}
	if d.file == "" {
		d.file = "agentd-diagnosis-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
	}
	get := func(use func(io.Reader) error) error { return d.client.get(cmd.Context(), "/v1/diagnose", use) }
	if d.stateDir != "" {
		say(cmd.ErrOrStderr(), "reading %s; no agent is asked", d.stateDir)
		get = func(use func(io.Reader) error) error { return d.fromDisk(cmd.Context(), use) }
	} else {
		say(cmd.ErrOrStderr(), "asking the agent at %s", d.client.address)
	}
	made, err := d.save(cmd, get)
	if err != nil {
		return err
	}
	if output.json() {
		return printJSON(cmd.OutOrStdout(), made)
	}
	return made.print(cmd.OutOrStdout())
}

// fromDisk has the archive made of the state directory.
func (d *diagnoseFlags) fromDisk(ctx context.Context, use func(io.Reader) error) error {
	schema, err := ownSchema()
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	made := make(chan error, 1)
	go func() {
		err := agent.DiagnoseState(ctx, agent.StateDiagnosis{StateDir: d.stateDir, Version: version, Schemas: []*config.Schema{schema}}, w)
		made <- err
		_ = w.CloseWithError(err) // never fails
	}()
	used := use(r)
	_ = r.CloseWithError(errors.Join(used, io.ErrClosedPipe))
	if err := <-made; err != nil && used != nil {
		return err
	}
	return used
}

// ownSchema says which settings of agentd are secret.
func ownSchema() (*config.Schema, error) {
	store, err := config.New(config.Config[settings.Settings]{})
	if err != nil {
		return nil, err
	}
	data, err := store.Schema()
	if err != nil {
		return nil, err
	}
	return config.ParseSchema(data)
}

// progressWriter tells how much has come, every few MiB.
type progressWriter struct {
	to         io.Writer
	done, told int64
}

// Write implements io.Writer.
func (p *progressWriter) Write(data []byte) (int, error) {
	const step = 4 << 20
	if p.done += int64(len(data)); p.done-p.told >= step {
		p.told = p.done
		say(p.to, "%s have come", mebibytes(p.done))
	}
	return len(data), nil
}

// save writes the archive beside the file and renames it once it has been read
// to its end. What an interruption leaves is called .agentd-diagnosis-*.
func (d *diagnoseFlags) save(cmd *cobra.Command, get func(func(io.Reader) error) error) (made diagnosed, err error) {
	// Mode 0600.
	f, err := os.CreateTemp(filepath.Dir(d.file), ".agentd-diagnosis-*")
	if err != nil {
		return made, fmt.Errorf("--file: %w", err)
	}
	defer func() {
		if closed := f.Close(); !errors.Is(closed, fs.ErrClosed) {
			err = errors.Join(err, closed)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	progress := &progressWriter{to: cmd.ErrOrStderr()}
	err = get(func(r io.Reader) error {
		// More than that is no diagnosis; what it holds is bounded besides.
		n, err := io.Copy(io.MultiWriter(f, progress), io.LimitReader(r, 2*agent.DiagnoseBytes))
		made.Bytes = n
		return err
	})
	if err != nil {
		return made, fmt.Errorf("no archive was written: %w", err)
	}
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return made, err
	}
	if made.Diagnosis, err = agent.ReadDiagnosis(f); err != nil {
		return made, fmt.Errorf("no archive was written: %w; ask again", err)
	}
	made.File, made.Schema = d.file, made.Diagnosis.Schema
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return made, err
	}
	err = os.Rename(f.Name(), d.file)
	return made, err
}

func (d diagnosed) print(w io.Writer) error {
	what := "made by agent " + d.Agent
	if d.Source == "disk" {
		what = "made from the disk alone, no agent was asked"
	}
	if _, err := fmt.Fprintf(w, "%s: %s, version %s, %d bytes\n\n", oneLine(d.File), oneLine(what), oneLine(d.Version), d.Bytes); err != nil {
		return err
	}
	rows := [][]string{{"FILE", "BYTES", "WHAT"}}
	for _, e := range d.Entries {
		about := e.About
		if e.Note != "" {
			about += " (" + e.Note + ")"
		}
		rows = append(rows, []string{e.Name, fmt.Sprint(e.Bytes), about})
	}
	for _, g := range d.Missing {
		rows = append(rows, []string{g.Name, "-", "missing: " + g.Reason})
	}
	return printTable(w, rows)
}
