package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

// newKeys are the release keys that a command adds to a keyring.
type newKeys struct {
	files               []string
	comment             string
	notBefore, notAfter string
}

func (n *newKeys) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&n.files, "add", nil, "public key `file` of a release key; may be repeated")
	f.StringVar(&n.comment, "comment", "", "`text` beside the key, for people")
	f.StringVar(&n.notBefore, "not-before", "", "`time` (RFC 3339) from which on the key signs; releases that were made earlier are refused")
	f.StringVar(&n.notAfter, "not-after", "", "`time` (RFC 3339) until which the key signs")
}

func (n *newKeys) addTo(k *release.Keyring, w io.Writer) error {
	from, err := timeFlag("not-before", n.notBefore)
	if err != nil {
		return err
	}
	until, err := timeFlag("not-after", n.notAfter)
	if err != nil {
		return err
	}
	if !until.IsZero() && until.Before(time.Now()) {
		say(w, "WARNING: --not-after %s is in the past: the key signs nothing that hosts take", stamp(until))
	}
	for _, file := range n.files {
		trust, err := release.LoadTrust(file)
		if err != nil {
			return err
		}
		for _, key := range trust.Keys {
			if err := k.Add(release.KeyringKey{Key: key.String(), NotBefore: from, NotAfter: until, Comment: n.comment}); err != nil {
				return err
			}
		}
	}
	return nil
}

func timeFlag(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return at, usagef("--%s: want a time such as 2030-01-02T03:04:05Z, found %q", name, value)
	}
	return at.UTC(), nil
}

func newKeysCreateCommand() *cobra.Command {
	var d draft
	var n newKeys
	var name string
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make the first keyring, to be signed by the roots",
		Long: `create writes an unsigned keyring that lists release keys. It needs no private
key. The file goes to each root (keys sign, or the minisign command), comes
back with the signatures beside it, and keys install puts it into the
repository. Agents that trust the roots (run --trust-roots) find it there.`,
		Example: "  agentd keys create --keyring keyring.json --add keys/release.pub",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := os.Lstat(d.path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is there already: change it with keys rotate or keys revoke: %w", d.path, errors.Join(err, fs.ErrExist))
		}
		if err := programFlag(name); err != nil {
			return err
		}
		k, err := release.NewKeyring(name)
		if err != nil {
			return err
		}
		if err := n.addTo(k, cmd.ErrOrStderr()); err != nil {
			return err
		}
		return d.issue(cmd, k, output)
	}
	d.add(cmd)
	d.addValidity(cmd)
	n.add(cmd)
	cmd.Flags().StringVar(&name, "name", programName, "`name` of the program whose releases the keys sign")
	require(cmd, "add", "keys/release.pub")
	return cmd
}

func newKeysRotateCommand() *cobra.Command {
	var d draft
	var n newKeys
	var retire []string
	var after time.Duration
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make the next keyring, with other release keys",
		Long: `rotate adds release keys to a keyring and lets others end: from then on agents
take no index by a retired key, while the releases that it signed stay good.
Publish with the new key before that. Begin with a copy of the keyring.json of
the repository; the result must be signed and installed as the first one was.

A key that was stolen is revoked, not retired.`,
		Example: "  agentd keys rotate --keyring keyring.json --add keys/2031.pub --retire 84E58F239BEA7357 --retire-after 720h",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if len(n.files)+len(retire) == 0 {
			return usagef("keys rotate wants --add or --retire; keys renew makes a keyring last longer")
		}
		k, err := d.open()
		if err != nil {
			return err
		}
		if err := n.addTo(k, cmd.ErrOrStderr()); err != nil {
			return err
		}
		for _, arg := range retire {
			id, _, err := keyArgument(arg)
			if err != nil {
				return err
			}
			if err := k.Retire(id, time.Now().Add(after)); err != nil {
				return err
			}
		}
		return d.issue(cmd, k, output)
	}
	d.add(cmd)
	d.addValidity(cmd)
	n.add(cmd)
	cmd.Flags().StringSliceVar(&retire, "retire", nil, "id or public key file of the `key` that ends; may be repeated")
	cmd.Flags().DurationVar(&after, "retire-after", 30*24*time.Hour, "how long it signs on")
	return cmd
}

func newKeysRevokeCommand() *cobra.Command {
	var d draft
	var reason string
	cmd := &cobra.Command{
		Use:   "revoke KEY",
		Short: "Make the next keyring, in which a release key counts no more",
		Long: `revoke takes all worth from a release key, at once and for ever: no agent that
has seen this keyring takes anything that the key signed, whenever that was.
Releases that it signed can be published again with another key; what agents
run, and what they have kept to go back to, stays. KEY is an id or a public
key file. What the key is goes into the revocation where the keyring lists it or a
file is given, so that the same key is refused under every id; a file adds that
also to a revocation that lacks it, and revokes the key under each id by which
the keyring lists it. Begin with a copy of the keyring.json of the repository;
the result must be signed and installed as the first one was.`,
		Example: "  agentd keys revoke --keyring keyring.json --reason 'build machine broken into' 84E58F239BEA7357",
		Args:    takes("KEY"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, key, err := keyArgument(args[0])
		if err != nil {
			return err
		}
		k, err := d.open()
		if err != nil {
			return err
		}
		listed := slices.ContainsFunc(k.Keys, func(l release.KeyringKey) bool { return l.ID() == id })
		if !listed {
			say(cmd.ErrOrStderr(), "WARNING: the keyring lists no key %s: if that is a root, no keyring takes it away, and hosts have to be given other roots (--trust-roots)", id)
		}
		if len(key.Keys) == 0 {
			err = k.Revoke(id, reason, time.Now())
		} else {
			err = k.RevokeKey(key.Keys[0], reason, time.Now())
		}
		if err != nil {
			return err
		}
		return d.issue(cmd, k, output)
	}
	d.add(cmd)
	d.addValidity(cmd)
	cmd.Flags().StringVar(&reason, "reason", "", "why; agents repeat it where they refuse the key")
	require(cmd, "reason", "stolen")
	return cmd
}

func newKeysRenewCommand() *cobra.Command {
	var d draft
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Make the next keyring, which only lasts longer",
		Long: `renew makes a keyring with the same keys and a later expiry. By one that has
expired no agent upgrades. Begin with a copy of the keyring.json of the
repository; the result must be signed and installed as the first one was.`,
		Example: "  agentd keys renew --keyring keyring.json --validity 8760h",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		k, err := d.open()
		if err != nil {
			return err
		}
		return d.issue(cmd, k, output)
	}
	d.add(cmd)
	d.addValidity(cmd)
	return cmd
}
