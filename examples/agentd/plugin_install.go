package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/upgrade/release"
)

// maxTemplate bounds a manifest, in bytes; the parser takes no more anyhow.
const maxTemplate = 64 << 10

// pluginInstall is what agentd plugin install was called with.
type pluginInstall struct {
	dir, manifest, key string
	version            string
	password           passwordFlag
	output             *format
}

func newPluginInstallCommand() *cobra.Command {
	var p pluginInstall
	cmd := &cobra.Command{
		Use:   "install EXECUTABLE",
		Short: "Put a plugin into a plugins directory, with its digest and signature",
		Long: `install copies an executable into a plugins directory, writes its manifest
beside it, with the executable's digest filled in, and signs that with --key, the
key that signs releases. It replaces an older version of the plugin; a host that
watches the directory goes over to the new one when all is there. To ship a
plugin, install it into an empty directory: the files in it are the plugin, and
can be copied to any host: the executable first, the signature last.

The manifest is a template, such as lies beside the source: sha256 may be missing,
and --plugin-version replaces its version. An unsigned plugin is refused by
agents with --require-signed-plugins.

` + passwordHelp,
		Example: `  agentd plugin install --manifest logtail.plugin.yaml --dir /usr/lib/agentd/plugins --key keys/release.key ./logtail
  agentd plugin install --manifest logtail.plugin.yaml --plugin-version 1.2.0 --dir ./dist ./logtail`,
		Args: takes("EXECUTABLE"),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0]) },
	}
	p.output = formatFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&p.dir, "dir", "", "plugins `directory`; must exist")
	f.StringVar(&p.manifest, "manifest", "", "`file` with the manifest, complete but for sha256")
	f.StringVar(&p.version, "plugin-version", "", "`version` of the plugin, in place of the manifest's")
	f.StringVar(&p.key, "key", "", "private key `file` that signs; without it the plugin is unsigned")
	p.password.add(cmd)
	require(cmd, "dir", "/usr/lib/agentd/plugins")
	require(cmd, "manifest", "logtail.plugin.yaml")
	return cmd
}

// installedPlugin is the answer in JSON.
type installedPlugin struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"`
	Signed  string `json:"signed,omitempty"` // the key's id
	Path    string `json:"manifest"`
}

func (p *pluginInstall) run(cmd *cobra.Command, executable string) error {
	if _, err := os.Stat(p.dir); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	template, err := readLimited(p.manifest, maxTemplate)
	if err != nil {
		return fmt.Errorf("--manifest: %w", err)
	}
	m, err := plugin.ParseTemplate(template)
	if err != nil {
		return fmt.Errorf("--manifest: %s: %w", p.manifest, err)
	}
	if p.version != "" {
		if err := exactVersion("--plugin-version", p.version); err != nil {
			return err
		}
		m.Version = p.version
	}
	done := installedPlugin{Name: m.Name, Version: m.Version, Path: filepath.Join(p.dir, m.Name+plugin.ManifestSuffix)}
	var sign func([]byte) ([]byte, error)
	if p.key != "" {
		key, err := release.OpenPrivateKey(p.key, p.password.read)
		if err != nil {
			return err
		}
		done.Signed = fmt.Sprintf("%016X", key.ID())
		sign = func(manifest []byte) ([]byte, error) {
			return release.Sign(key, manifest, fmt.Sprintf("plugin %s %s", m.Name, m.Version)), nil
		}
	}
	if m, err = plugin.InstallSigned(p.dir, executable, m, sign); err != nil {
		return err
	}
	done.Digest = "sha256:" + m.SHA256
	if p.output.json() {
		return printJSON(cmd.OutOrStdout(), done)
	}
	signed := "unsigned"
	if done.Signed != "" {
		signed = "signed by key " + done.Signed
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s, %s, %s: %s\n", done.Name, done.Version, short(done.Digest), signed, done.Path)
	return err
}

// readLimited reads a file of at most limit bytes; "-" is standard input.
func readLimited(path string, limit int64) ([]byte, error) {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: want at most %d bytes, found more", path, limit)
	}
	return data, err
}
