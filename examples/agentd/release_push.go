package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release/oci"
)

const pushHelp = `push copies the repository directory to oci://host/repository, or to the OCI
image layout oci-layout:DIR, from where agents take releases by the same name
(run --repo). Blobs that are there are not sent again, so that an interrupted
push is continued by the next. The tag that agents follow moves last. Each
release is an image index as well, under the tag of its version.

Credentials are those of docker login. A registry is spoken to with TLS unless
it is on this machine and none of --repo-ca, --repo-cert and --repo-key is given,
or the location begins with oci+http://. The three are about LOCATION. With
--cosign-key each release that the key has not signed yet, and that is not
withdrawn, is signed as by cosign sign; the password of the key is read from
COSIGN_PASSWORD. That wants --trust or --trust-roots: what the release keys have
not signed, cosign's key does not sign either. With one of them, a directory that
is not signed is refused in any case; a release that is signed, but by a key that was
revoked or is not among them, is pushed and told unless there is a --cosign-key.

With --repair all that is there is read back, and sent again where it is damaged
(release verify finds it). Registries that never replace a blob keep the damage:
the error says which files to remove from the registry's storage, and the next
push --repair sends them. The blobs of a layout are read and mended without --repair.`

// pushing is what a command is told that pushes a repository directory.
type pushing struct {
	oci.PushConfig
	access    repository // what it takes to reach the target
	cosignKey string
}

func (p *pushing) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.cosignKey, "cosign-key", "", "private key `file` of cosign, encrypted or not; signs each release")
	p.access.addTLS(cmd)
}

// aim sets the target, and reads what signs there.
func (p *pushing) aim(what, location string) (err error) {
	if !oci.IsLocation(location) {
		return usagef("%s: want oci://host/repository or oci-layout:DIR, found %q", what, location)
	}
	p.Target = p.access.registry(location)
	p.Key, err = signingKey(p.cosignKey)
	return err
}

// run pushes and tells progress on w.
func (p *pushing) run(ctx context.Context, w io.Writer) (*oci.Pushed, error) {
	var tenth int64
	p.Progress = func(told oci.Progress) {
		if told.Total > 0 && told.Done*10/told.Total > tenth {
			tenth = told.Done * 10 / told.Total
			say(w, "%d %% of %s: %s", tenth*10, mebibytes(told.Total), told.Piece)
		}
	}
	pushed, err := oci.Push(ctx, p.PushConfig)
	if err != nil {
		return nil, err
	}
	for _, r := range pushed.Releases {
		if r.Refused != "" {
			say(w, "%s is pushed, but hosts with these keys refuse it: %s", r.Version, r.Refused)
		}
	}
	return pushed, nil
}

func newReleasePushCommand() *cobra.Command {
	var p pushing
	var trust trustFlags
	cmd := &cobra.Command{
		Use:   "push LOCATION",
		Short: "Copy a repository directory into an OCI registry or layout",
		Long:  pushHelp,
		Example: `  agentd release push --repo repo oci://registry.example.com/agentd
  agentd release push --repo repo --repo-ca registry-ca.pem oci://registry.example.com/agentd
  agentd release push --repo repo --trust keys/release.pub --cosign-key cosign.key oci-layout:/srv/agentd
  agentd release push --repo repo --repair oci://registry.example.com/agentd`,
		Args: takes("LOCATION"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if p.cosignKey != "" || trust.given() {
			if p.Trust, err = trust.open(); err != nil {
				return err
			}
		}
		if err := p.aim("LOCATION", args[0]); err != nil {
			return err
		}
		pushed, err := p.run(cmd.Context(), cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), pushed)
		}
		return printPushed(cmd.OutOrStdout(), pushed)
	}
	cmd.Flags().StringVar(&p.Dir, "repo", "", "`directory` of the repository")
	cmd.Flags().StringVar(&p.Name, "name", programName, "`name` of the program whose repository it must be, with --trust")
	cmd.Flags().BoolVar(&p.Repair, "repair", false, "read back all that is there, and send again what is damaged")
	p.add(cmd)
	trust.add(cmd)
	require(cmd, "repo", "repo")
	return cmd
}

func printPushed(w io.Writer, pushed *oci.Pushed) error {
	rows := [][]string{{"VERSION", "IMAGE", "TAG", "SIGNED NOW"}}
	for _, r := range pushed.Releases {
		rows = append(rows, []string{r.Version, r.Image, dash(r.Tag), yesNo(r.Signed)})
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "index %d is in %s; sent %d blobs of %d bytes, %d of them in place of damaged ones\n", pushed.Sequence, pushed.Target, pushed.Sent, pushed.SentBytes, pushed.Repaired)
	return err
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
