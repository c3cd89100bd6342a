package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

// trustFlags say whose signatures count: release keys, or roots whose keyring
// lists them.
type trustFlags struct {
	keys string
	rootFlags
}

// rootFlags name the root keys that sign keyrings.
type rootFlags struct {
	roots     string
	threshold int
}

func (t *trustFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var((*fileOnce)(&t.keys), "trust", "public key `file` of the publisher; in its place --trust-roots")
	t.rootFlags.add(cmd)
}

func (r *rootFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var((*fileOnce)(&r.roots), "trust-roots", "public key `file` of the roots, one a line, whose keyring lists the publisher's keys")
	cmd.Flags().IntVar(&r.threshold, "trust-threshold", 0, "how many roots must sign a keyring; default more than half")
}

// fileOnce is the value of a flag that names a file of keys. The last of two
// would win, and the keys of the other count for nothing.
type fileOnce string

// String, Set and Type implement pflag.Value.
func (f *fileOnce) String() string { return string(*f) }

func (f *fileOnce) Set(s string) error {
	if *f != "" && string(*f) != s {
		return fmt.Errorf("want one file, found %s before: put all keys into one, one a line", *f)
	}
	*f = fileOnce(s)
	return nil
}

func (f *fileOnce) Type() string { return "string" }

// given reports whether there is anything to trust.
func (t *trustFlags) given() bool { return t.keys != "" || t.roots != "" }

func (t *trustFlags) open() (release.Trust, error) {
	switch {
	case t.keys != "" && t.roots != "":
		return release.Trust{}, usagef("--trust and --trust-roots are two ways to say whose releases count: give one (or unset %s or %s)", variable("trust"), variable("trust-roots"))
	case t.roots != "" || t.threshold != 0:
		return t.rootFlags.open()
	case t.keys == "":
		return release.Trust{}, usagef("--trust (or %s) is missing, such as --trust keys/release.pub; or --trust-roots roots.pub", variable("trust"))
	}
	return release.LoadTrust(t.keys)
}

func (r *rootFlags) open() (release.Trust, error) {
	if r.roots == "" {
		return release.Trust{}, usagef("--trust-roots (or %s) is missing, such as --trust-roots roots.pub", variable("trust-roots"))
	}
	if r.threshold < 0 {
		return release.Trust{}, usagef("--trust-threshold: want 1 or more, or 0 for more than half, found %d", r.threshold)
	}
	if loaded, err := release.LoadTrust(r.roots); err == nil && r.threshold > len(loaded.Keys) {
		return release.Trust{}, usagef("--trust-threshold: want at most %d, which is how many roots %s holds, found %d", len(loaded.Keys), r.roots, r.threshold)
	}
	return release.LoadRoots(r.roots, r.threshold)
}
