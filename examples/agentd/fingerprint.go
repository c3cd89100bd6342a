package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent/fingerprint"
)

// looksAround is the value of --fingerprint: how far an agent looks at what it
// runs on.
type looksAround string

const (
	looksAll   looksAround = "all"
	looksFiles looksAround = "files"
	looksOff   looksAround = "off"
)

func (l *looksAround) add(cmd *cobra.Command) {
	*l = looksAll
	cmd.Flags().Var(l, "fingerprint", "what to tell in the registration of what the agent runs on: all, files (container runtimes are not asked on their sockets) or off")
}

// String, Set and Type implement pflag.Value.
func (l *looksAround) String() string { return string(*l) }

func (l *looksAround) Set(s string) error {
	switch looksAround(s) {
	case looksAll, looksFiles, looksOff:
		*l = looksAround(s)
		return nil
	}
	return fmt.Errorf("want all, files or off, found %q", s)
}

func (l *looksAround) Type() string { return "extent" }

func (l *looksAround) config() fingerprint.Config {
	return fingerprint.Config{Off: *l == looksOff, NoSockets: *l == looksFiles}
}
