package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

// keyringView is a keyring and who has signed it.
type keyringView struct {
	Keyring *release.Keyring `json:"keyring"`
	// SignedBy are the roots that have signed a keyring file; absent where the
	// roots are not known. A repository's has been checked.
	SignedBy []string `json:"signed_by,omitempty"`
	// Needed is how many must have; 0 where the roots are not known.
	Needed int `json:"needed,omitempty"`
	// Expired tells that no agent upgrades by it any more.
	Expired bool `json:"expired,omitempty"`
}

func newKeysListCommand() *cobra.Command {
	var d draft
	var r reader
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the keys of a keyring",
		Long: `list shows the keys of the keyring in a repository, once enough of the roots
have been found to have signed it, or those of a keyring file, and then, with
--trust-roots, which roots have signed it so far.

Exit code 0 means that the keys were listed, 1 that there is a problem: the
keyring has expired, which is shown all the same, or is none that could be
trusted or read.`,
		Example: `  agentd keys list --repo https://releases.example.com/agentd --trust-roots roots.pub
  agentd keys list --keyring keyring.json --trust-roots roots.pub --trust-threshold 2`,
		Args: takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		view, problem := keyringOf(cmd.Context(), &d, &r)
		if view.Expired = errors.Is(problem, release.ErrExpired); view.Keyring == nil || problem != nil && !view.Expired {
			return problem
		}
		if output.json() {
			return errors.Join(problem, printJSON(cmd.OutOrStdout(), view))
		}
		if err := printKeyring(cmd.OutOrStdout(), view.Keyring, time.Now()); err != nil {
			return err
		}
		return errors.Join(problem, view.printSigners(cmd.OutOrStdout(), d.path != ""))
	}
	r.add(cmd)
	cmd.Flags().StringVar(&d.path, "keyring", "", "keyring `file`, in place of --repo")
	return cmd
}

func keyringOf(ctx context.Context, d *draft, r *reader) (v keyringView, err error) {
	if (d.path == "") == (r.location == "") {
		return v, usagef("keys list wants --repo or --keyring, and not both")
	}
	if r.location != "" {
		client, err := r.client()
		if err != nil {
			return v, err
		}
		v.Keyring, err = client.Keyring(ctx)
		return v, err
	}
	document, err := d.document()
	if err != nil {
		return v, err
	}
	if v.Keyring, err = release.ParseKeyring(document); err != nil {
		return v, err
	}
	var expired error
	if k := v.Keyring; !time.Now().Before(k.Expires) {
		expired = fmt.Errorf("%w: the keyring in %s expired at %s: make the next with keys renew", release.ErrExpired, d.path, stamp(k.Expires))
	}
	if r.trust.roots == "" {
		return v, expired
	}
	trust, err := r.trust.rootFlags.open()
	if err != nil {
		return v, err
	}
	signatures, err := d.signatures()
	v.SignedBy, v.Needed = trust.SignedBy(document, signatures...), trust.Needed()
	return v, cmp.Or(err, expired)
}

func (v keyringView) printSigners(w io.Writer, file bool) (err error) {
	switch {
	case !file:
	case v.Needed == 0:
		_, err = fmt.Fprintln(w, "its signatures were not checked: give --trust-roots")
	default:
		_, err = fmt.Fprintf(w, "signed by %d of %d roots that are needed: %s\n", len(v.SignedBy), v.Needed, dash(strings.Join(v.SignedBy, ", ")))
	}
	return err
}
