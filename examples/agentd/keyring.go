package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/examples/internal/durable"
	"github.com/perennial-go/perennial/upgrade/release"
)

// signatureSuffix ends the name of a signature beside its keyring: the
// keyring's own name, the root's id, this.
const signatureSuffix = ".minisig"

// draft is a keyring in a file, with its signatures beside it, as it travels
// from one machine to the next until enough roots have signed.
type draft struct {
	path     string
	validity time.Duration
}

func (d *draft) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.path, "keyring", "", "keyring `file`; signatures lie beside it")
	require(cmd, "keyring", "keyring.json")
}

func (d *draft) addValidity(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&d.validity, "validity", 365*24*time.Hour, "how long agents upgrade by this keyring")
}

// document reads the bytes that are signed.
func (d *draft) document() ([]byte, error) {
	info, err := os.Stat(d.path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w: make one with keys create, or copy keyring.json out of the repository", err)
	}
	if info.Size() > release.MaxKeyringSize {
		return nil, fmt.Errorf("keyring %s has %d bytes, at most %d are read", d.path, info.Size(), release.MaxKeyringSize)
	}
	return os.ReadFile(d.path)
}

func (d *draft) open() (*release.Keyring, error) {
	document, err := d.document()
	if err != nil {
		return nil, err
	}
	k, err := release.ParseKeyring(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.path, err)
	}
	return k, nil
}

// signatures reads what lies beside the keyring, whoever made it and whatever
// the files are called between the keyring's name and the suffix.
func (d *draft) signatures() (found [][]byte, err error) {
	paths, err := d.signaturePaths()
	if err != nil {
		return nil, err
	}
	const most, largest = 64, 8 << 10
	if len(paths) > most {
		return nil, fmt.Errorf("%d signatures lie beside %s, at most %d are read: remove the old ones", len(paths), d.path, most)
	}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Size() > largest {
			return nil, fmt.Errorf("%s has %d bytes and is no signature: remove it", path, info.Size())
		}
		signature, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		found = append(found, signature)
	}
	return found, nil
}

func (d *draft) signaturePaths() (paths []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(d.path))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(d.path)+".") && strings.HasSuffix(e.Name(), signatureSuffix) {
			paths = append(paths, filepath.Join(filepath.Dir(d.path), e.Name()))
		}
	}
	return paths, nil
}

// issue writes the next keyring. Signatures of the one before go first: they
// would not match, and would be taken for those of the new one.
func (d *draft) issue(cmd *cobra.Command, k *release.Keyring, output *format) error {
	if err := positive("validity", d.validity); err != nil {
		return err
	}
	if err := d.travels(); err != nil {
		return err
	}
	document, err := k.Issue(time.Now(), d.validity)
	if err != nil {
		return err
	}
	if now := time.Now(); !slices.ContainsFunc(k.Keys, func(key release.KeyringKey) bool { return key.NotAfter.IsZero() || now.Before(key.NotAfter) }) {
		say(cmd.ErrOrStderr(), "WARNING: no key of this keyring signs any more: once it is installed, hosts take no index until a keyring lists another (keys rotate --add)")
	}
	old, err := d.signaturePaths()
	if err != nil {
		return err
	}
	for _, path := range old {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := durable.WriteFile(d.path, document); err != nil {
		return err
	}
	// It travels, and holds nothing that is secret.
	if err := os.Chmod(d.path, 0o644); err != nil { //nolint:gosec // public keys
		return err
	}
	if output.json() {
		return printJSON(cmd.OutOrStdout(), k)
	}
	if err := printKeyring(cmd.OutOrStdout(), k, time.Now()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s: have the roots sign it (keys sign), then install it (keys install)\n", d.path)
	return err
}

// travels refuses a keyring in a repository, where agents read it: unsigned it
// would stop them all.
func (d *draft) travels() error {
	dir := filepath.Dir(d.path)
	for _, name := range []string{"index.json", "keyrings"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return errors.Join(err, fmt.Errorf("%s lies in a repository (beside %s), whose agents would find it without signatures: work on a copy (cp %s .), sign that and install it", d.path, name, d.path))
		}
	}
	return nil
}

// printKeyring shows what the roots sign: the keys themselves, for an id is a
// label that whoever makes a key chooses.
func printKeyring(w io.Writer, k *release.Keyring, now time.Time) error {
	rows := [][]string{{"KEY", "STATE", "NOT BEFORE", "NOT AFTER", "COMMENT"}}
	for _, key := range k.Keys {
		state := "signs"
		switch {
		case now.Before(key.NotBefore):
			state = "signs later"
		case !key.NotAfter.IsZero() && !now.Before(key.NotAfter):
			state = "retired"
		}
		rows = append(rows, []string{key.ID(), state, stamp(key.NotBefore), stamp(key.NotAfter), dash(oneLine(key.Comment))})
	}
	for _, r := range k.Revoked {
		rows = append(rows, []string{r.ID, "revoked", "-", stamp(r.Since), dash(oneLine(r.Reason))})
	}
	if err := printTable(w, rows); err != nil {
		return err
	}
	for _, key := range k.Keys {
		if _, err := fmt.Fprintf(w, "key %s is %s\n", key.ID(), key.Key); err != nil {
			return err
		}
	}
	for _, r := range k.Revoked {
		what := "revoked key " + r.ID + " is " + r.Key
		if r.Key == "" {
			what = "revoked key " + r.ID + " is known by its id alone: keys revoke with its .pub file has it refused under every id"
		}
		if _, err := fmt.Fprintln(w, what); err != nil {
			return err
		}
	}
	expires := "expires"
	if !now.Before(k.Expires) {
		expires = "EXPIRED at"
	}
	_, err := fmt.Fprintf(w, "keyring %d of %s, issued %s, %s %s\n", k.Sequence, k.Name, stamp(k.Issued), expires, stamp(k.Expires))
	return err
}

// keyArgument reads a key's id, or the key in a .pub file and its id.
func keyArgument(arg string) (id string, key release.Trust, err error) {
	if len(arg) == 16 && strings.Trim(arg, "0123456789abcdefABCDEF") == "" {
		return strings.ToUpper(arg), key, nil
	}
	trust, err := release.LoadTrust(arg)
	if err != nil {
		return "", key, fmt.Errorf("want the 16 digits of a key's id or a public key file: %w", err)
	}
	if len(trust.Keys) != 1 {
		return "", key, fmt.Errorf("%s holds %d keys, want one", arg, len(trust.Keys))
	}
	return release.KeyID(trust.Keys[0]), trust, nil
}
