package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/upgrade/release"
)

func newReleasePullCommand() *cobra.Command {
	var r chooser
	cmd := &cobra.Command{
		Use:   "pull VERSION|VERSION@sha256:DIGEST|RANGE",
		Short: "Fill a cache with a release",
		Long: `pull fetches the index, the manifest and this platform's binary of VERSION into
the cache, checked as an agent checks them. Agents and commands with the same
--repo and --cache and the policy --pull Never or IfNotPresent then need no
network for it. A RANGE is resolved once, as by release resolve, and what it
stands for is told on standard error.`,
		Example: "  agentd release pull --repo https://releases.example.com/agentd --trust release.pub --cache /var/cache/agentd 1.1.0",
		Args:    takes("VERSION"),
	}
	output := formatFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.watch = &watch{w: cmd.ErrOrStderr()}
		client, err := r.client()
		if err != nil {
			return err
		}
		defer r.watch.begin(cmd.Context())()
		which, err := r.exact(cmd.Context(), client, args[0], cmd.ErrOrStderr())
		if err != nil {
			return err
		}
		pin, err := r.fill(cmd.Context(), which)
		if err != nil {
			return err
		}
		if output.json() {
			return printJSON(cmd.OutOrStdout(), map[string]any{"name": r.name, "asked": args[0], "pin": pin, "reference": pin.String(), "cache": r.cacheDir})
		}
		say(cmd.OutOrStdout(), "%s is in %s", pin, r.cacheDir)
		return nil
	}
	r.add(cmd)
	require(cmd, "repo", "repo")
	require(cmd, "cache", "/var/cache/agentd")
	return cmd
}

// fill fetches a release by way of the cache, and sees that it is there then:
// the cache fails no download that it cannot keep.
func (r *reader) fill(ctx context.Context, which string) (pin release.Pin, err error) {
	var kept complaint
	if pin, err = r.fetch(ctx, which, slog.New(&kept)); err != nil {
		return pin, err
	}
	from := *r
	from.pull, from.watch = string(release.PullNever), nil
	_, err = from.fetch(ctx, which, nil)
	if errors.Is(err, release.ErrNotCached) && kept.reason != nil {
		err = notKept(r.cacheDir, kept.reason)
	}
	return pin, err
}

func notKept(dir string, reason error) error {
	if errors.Is(reason, fs.ErrPermission) || errors.Is(reason, syscall.EROFS) {
		return fmt.Errorf("want the release in the cache %s, which could not be written: %w: give its user or its mode back the right to write, or run the command as a user that has it", dir, reason)
	}
	return fmt.Errorf("want the release in the cache %s, which did not keep it: %w", dir, reason)
}

// complaint is a handler of logs that remembers the first error it is told of.
type complaint struct{ reason error }

// Enabled, Handle, WithAttrs and WithGroup implement slog.Handler.
func (c *complaint) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (c *complaint) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok && c.reason == nil {
			c.reason = err
		}
		return true
	})
	return nil
}

func (c *complaint) WithAttrs([]slog.Attr) slog.Handler { return c }

func (c *complaint) WithGroup(string) slog.Handler { return c }

// fetch does what an agent does with a version or a pin, and keeps nothing but what
// the cache does.
func (r *reader) fetch(ctx context.Context, which string, logger *slog.Logger) (pin release.Pin, err error) {
	client, err := r.logging(logger)
	if err != nil {
		return pin, err
	}
	if pin, err = client.ResolveAny(ctx, which, release.Policy{}); err != nil {
		return pin, err
	}
	manifest, _, _, err := client.Manifest(ctx, pin)
	if err != nil {
		return pin, err
	}
	dir, err := pullDir(r.cacheDir)
	if err != nil {
		return pin, err
	}
	_, err = client.Fetch(ctx, manifest, filepath.Join(dir, "binary"), release.FetchOptions{Progress: r.progress()})
	return pin, errors.Join(err, os.RemoveAll(dir))
}

// progress tells in tenths how far a download is.
func (r *reader) progress() func(release.FetchProgress) {
	var tenth int64
	return func(p release.FetchProgress) {
		if r.watch == nil || p.Total == 0 || p.Done*10/p.Total <= tenth {
			return
		}
		tenth = p.Done * 10 / p.Total
		say(r.watch.w, "downloading %d %% of %s (%s)", tenth*10, mebibytes(p.Total), p.Form)
	}
}

// pulling starts the names of the directories in which pulled binaries are put
// together.
const pulling = ".tmp-pull-"

// pullDir makes a directory in the cache, to whose files nothing can be linked from
// another file system. What a killed command left there goes after a day.
func pullDir(cache string) (string, error) {
	left, err := filepath.Glob(filepath.Join(cache, pulling+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range left {
		if info, err := os.Lstat(dir); err == nil && time.Since(info.ModTime()) > 24*time.Hour {
			_ = os.RemoveAll(dir) // another user's may stay
		}
	}
	dir, err := os.MkdirTemp(cache, pulling)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EROFS) {
		return os.MkdirTemp("", "agentd-pull-") // it can be read, at least
	}
	return dir, err
}
