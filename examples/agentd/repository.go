package main

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
	"github.com/perennial-go/perennial/upgrade/release/oci"
)

// repository is what every command that reads a repository is told about it.
type repository struct {
	location                            string
	caFile, certFile, keyFile, authFile string
	cacheDir, pull                      string
	cacheBytes                          int64

	watch *watch // told of what is read; nil where that is nobody's concern
}

func (r *repository) add(cmd *cobra.Command) {
	r.addOrigin(cmd)
	flags := cmd.Flags()
	flags.StringVar(&r.cacheDir, "cache", "", "`directory` that keeps what was read of the repository; agents of one host may share it")
	flags.StringVar(&r.pull, "pull", string(release.PullAlways), "`policy` with --cache: Always asks the repository for its index each time, IfNotPresent once what is kept has expired or lacks the version, and at the looks of an agent (--check-every), Never not at all")
	flags.Int64Var(&r.cacheBytes, "cache-bytes", 0, "`bytes` that the cache may take; 0 is 2 GiB")
}

// addOrigin adds the flags of a command for which a cache will not do.
func (r *repository) addOrigin(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&r.location, "repo", "", "repository: a `directory`, an http(s) URL, oci://host/repository or oci-layout:DIR; proxies are taken from HTTPS_PROXY and NO_PROXY")
	r.addTLS(cmd)
	flags.StringVar(&r.authFile, "repo-auth-file", "", "`file` with the Authorization header to send it, such as Bearer TOKEN, mode 0600; sent over https to that host alone")
}

// addTLS adds the flags of a command that speaks to servers with TLS.
func (r *repository) addTLS(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&r.caFile, "repo-ca", "", "PEM `file` of the authorities that may vouch for an https repository or a registry, instead of the system's")
	flags.StringVar(&r.certFile, "repo-cert", "", "PEM `file` of the client certificate to show it")
	flags.StringVar(&r.keyFile, "repo-key", "", "PEM `file` of that certificate's key, mode 0600")
}

// open returns the source. logger may be nil.
func (r *repository) open(logger *slog.Logger) (release.Source, error) {
	switch release.PullPolicy(r.pull) {
	case "", release.PullAlways, release.PullIfNotPresent, release.PullNever:
	default:
		return nil, usagef("--pull: want %s, %s or %s, found %q", release.PullAlways, release.PullIfNotPresent, release.PullNever, r.pull)
	}
	source, err := r.origin()
	if err != nil {
		return nil, err
	}
	if r.cacheDir == "" {
		if policy := release.PullPolicy(r.pull); policy != release.PullAlways && policy != "" {
			return nil, usagef("--pull %s wants --cache, the directory to take it from", r.pull)
		}
		return source, nil
	}
	return release.NewCache(release.CacheConfig{
		Dir: r.cacheDir, Source: source, Pull: release.PullPolicy(r.pull), MaxBytes: r.cacheBytes, Logger: logger,
		Fill: fmt.Sprintf("agentd release pull --repo %s --cache %s VERSION fills it", source, r.cacheDir),
	})
}

// origin returns the repository itself.
func (r *repository) origin() (release.Source, error) {
	source, err := r.plainOrigin()
	if err != nil || r.watch == nil {
		return source, err
	}
	r.watch.source = source.String()
	return watched{source, r.watch}, nil
}

func (r *repository) plainOrigin() (release.Source, error) {
	if !oci.IsLocation(r.location) {
		scheme, _, _ := strings.Cut(r.location, "://")
		if r.caFile+r.certFile+r.keyFile+r.authFile != "" && !strings.EqualFold(scheme, "https") {
			return nil, usagef("--repo-ca, --repo-cert, --repo-key and --repo-auth-file are for a repository at https:// (or, but for the last, in a registry): over http anyone on the way could change what they protect: give such a --repo, or leave them out")
		}
		if (r.certFile == "") != (r.keyFile == "") {
			return nil, usagef("--repo-cert and --repo-key belong together: give both or none")
		}
		access := release.HTTPConfig{CAFile: r.caFile, CertFile: r.certFile, KeyFile: r.keyFile, AuthFile: r.authFile}
		if r.watch != nil {
			access.Retry = r.watch.retry
		}
		return release.OpenSource(release.SourceConfig{Location: r.location, HTTP: access})
	}
	if r.authFile != "" {
		return nil, usagef("--repo-auth-file is for https repositories, found %s: credentials come from docker login there", r.location)
	}
	return oci.New(r.registry(r.location))
}

// registry says how a registry or layout is reached.
func (r *repository) registry(location string) oci.Config {
	return oci.Config{Location: location, CAFile: r.caFile, CertFile: r.certFile, KeyFile: r.keyFile}
}
