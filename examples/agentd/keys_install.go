package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/internal/durable"
	"github.com/perennial-go/perennial/upgrade/release"
)

func newKeysSignCommand() *cobra.Command {
	var d draft
	var key string
	var password passwordFlag
	cmd := &cobra.Command{
		Use:   "sign",
		Short: "Sign a keyring with a root key",
		Long: `sign shows what a keyring says and writes the signature beside it. It needs no
network and no repository. The minisign command does the same:

  minisign -S -s root-1.key -m keyring.json -x keyring.json.root-1.minisig

` + passwordHelp,
		Example: "  agentd keys sign --key root-1.key --keyring keyring.json",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		document, err := d.document()
		if err != nil {
			return err
		}
		k, err := release.ParseKeyring(document)
		if err != nil {
			return err
		}
		// Before the password is asked for: whoever gives it has seen this.
		if !output.json() {
			if err := printKeyring(cmd.OutOrStdout(), k, time.Now()); err != nil {
				return err
			}
		}
		root, err := release.OpenPrivateKey(key, password.read)
		if err != nil {
			return err
		}
		signature, err := release.SignKeyring(document, root)
		if err != nil {
			return err
		}
		id := fmt.Sprintf("%016X", root.ID())
		path := d.path + "." + id + signatureSuffix
		if err := durable.WriteFile(path, signature); err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"root": id, "signature": path, "sequence": k.Sequence})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: the signature of root %s\n", path, id)
		return err
	}
	d.add(cmd)
	cmd.Flags().StringVar(&key, "key", "", "private key `file` of the root")
	password.add(cmd)
	require(cmd, "key", "root-1.key")
	return cmd
}

func newKeysInstallCommand() *cobra.Command {
	var d draft
	var roots rootFlags
	var dir string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put a signed keyring into a repository",
		Long: `install collects the signatures beside a keyring and puts it into a repository
directory if enough of the roots have signed. It needs no private key. What
agents would refuse is refused here: an older keyring, one that expired, one
that takes back a revocation.`,
		Example: "  agentd keys install --keyring keyring.json --repo repo --trust-roots roots.pub --trust-threshold 2",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		trust, err := roots.open()
		if err != nil {
			return err
		}
		document, err := d.document()
		if err != nil {
			return err
		}
		signatures, err := d.signatures()
		if err != nil {
			return err
		}
		k, err := release.InstallKeyring(cmd.Context(), release.KeyringConfig{Dir: dir, Trust: trust}, document, signatures...)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), keyringView{Keyring: k, SignedBy: trust.SignedBy(document, signatures...), Needed: trust.Needed()})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "installed keyring %d of %s in %s\n", k.Sequence, k.Name, dir)
		return err
	}
	d.add(cmd)
	roots.add(cmd)
	cmd.Flags().StringVar(&dir, "repo", "", "`directory` of the repository")
	require(cmd, "repo", "repo")
	require(cmd, "trust-roots", "roots.pub")
	return cmd
}
