package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

func newKeysCommand() *cobra.Command {
	return newGroup("keys", "Make the keys that sign releases, and the keyring that lists them",
		"  agentd keys generate --out keys",
		newKeysGenerateCommand(),
		newKeysListCommand(),
		newKeysCreateCommand(),
		newKeysRotateCommand(),
		newKeysRevokeCommand(),
		newKeysRenewCommand(),
		newKeysSignCommand(),
		newKeysInstallCommand(),
	)
}

// generated is the output of keys generate.
type generated struct {
	ID      string `json:"id"`
	Key     string `json:"key"`
	Private string `json:"private"`
	Public  string `json:"public"`
}

func newKeysGenerateCommand() *cobra.Command {
	var cfg release.KeyConfig
	var password passwordFlag
	var encrypt bool
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Write release.key (mode 0600) and release.pub",
		Long: `generate makes a key pair for signing releases. Keep release.key where only
the release build can read it; give release.pub to every agent (run --trust).
Keys that exist are never replaced. They are minisign keys: its command reads
them, and agentd reads those that it made.

Root keys, which sign the keyring in which the release keys are listed, are
made the same way. Make each on a machine of its own that no network reaches,
with a password, and give every agent all of their .pub files as one
(run --trust-roots).

With --encrypt or --password-file the private key has a password. ` + passwordHelp,
		Example: "  agentd keys generate --out keys\n  agentd keys generate --out /media/usb/root-1 --as root-1 --encrypt",
		Args:    takes(),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if encrypt || password.file != "" {
			if cfg.Password, err = password.choose(); err != nil {
				return err
			}
		}
		public, err := release.CreateKey(cfg)
		if err != nil {
			return err
		}
		g := generated{
			ID: release.KeyID(public), Key: public.String(),
			Private: filepath.Join(cfg.Dir, cfg.Name+".key"), Public: filepath.Join(cfg.Dir, cfg.Name+".pub"),
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), g)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "wrote %s, to be kept secret, and %s, for every agent\n", g.Private, g.Public)
		return err
	}
	cmd.Flags().StringVar(&cfg.Dir, "out", "", "`directory` for the two files, made if it is missing")
	cmd.Flags().StringVar(&cfg.Name, "as", "release", "`name` of the two files without .key and .pub")
	cmd.Flags().BoolVar(&encrypt, "encrypt", false, "encrypt the private key with a password")
	password.add(cmd)
	require(cmd, "out", "keys")
	return cmd
}
