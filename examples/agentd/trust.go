package main

import (
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
	cmd.Flags().StringVar(&t.keys, "trust", "", "public key `file` of the publisher; in its place --trust-roots")
	t.rootFlags.add(cmd)
}

func (r *rootFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&r.roots, "trust-roots", "", "public key `file` of the roots, one a line, whose keyring lists the publisher's keys")
	cmd.Flags().IntVar(&r.threshold, "trust-threshold", 0, "how many roots must sign a keyring; default more than half")
}

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
	return release.LoadRoots(r.roots, r.threshold)
}
