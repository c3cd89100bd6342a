package audit

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// GitServerConfig says where actions are looked up.
type GitServerConfig struct {
	// URL is what the repositories are below; default https://github.com.
	URL string
	// Timeout is for one question; default 30 s.
	Timeout time.Duration
}

// GitServer is Actions that asks a git server with git. It sends no
// credentials and follows no redirect. It may be used concurrently.
type GitServer struct {
	url     *url.URL
	timeout time.Duration
}

var _ Actions = (*GitServer)(nil)

// NewGitServer returns the server. Nothing is asked yet. It refuses a URL that
// is neither http nor https, and one with a user.
func NewGitServer(cfg GitServerConfig) (*GitServer, error) {
	if cfg.URL == "" {
		cfg.URL = "https://github.com"
	}
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery+u.Fragment != "" {
		return nil, fmt.Errorf("git server: want a URL such as https://github.com, without a user, found %.100q", cfg.URL)
	}
	switch {
	case cfg.Timeout < 0:
		return nil, fmt.Errorf("timeout of the git server: want more than nothing, found %v", cfg.Timeout)
	case cfg.Timeout == 0:
		cfg.Timeout = 30 * time.Second
	}
	return &GitServer{u, cfg.Timeout}, nil
}

// Commit implements Actions. Of a tag and a branch of one name it is the tag;
// of an annotated tag what it stands for.
func (g *GitServer) Commit(ctx context.Context, repository, revision string) (string, error) {
	owner, name, _ := strings.Cut(repository, "/")
	if !gitName(owner) || !gitName(name) || !gitRevision(revision) {
		return "", fmt.Errorf("%.200q at %.200q is no repository and revision", repository, revision)
	}
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	tag, branch := "refs/tags/"+revision, "refs/heads/"+revision
	out, err := git(ctx, os.TempDir(), []string{"GIT_DIR=" + os.DevNull, "GIT_ALLOW_PROTOCOL=" + g.url.Scheme, "GIT_ASKPASS=true"},
		"-c", "http.followRedirects=false", "-c", "credential.helper=",
		"-c", "http.lowSpeedLimit=1", "-c", fmt.Sprintf("http.lowSpeedTime=%d", int(g.timeout.Seconds())+1), "ls-remote", "--", g.url.JoinPath(repository).String(), tag, tag+"^{}", branch)
	if err != nil {
		return "", fmt.Errorf("%s could not be asked for %s: %w", g.url.JoinPath(repository), revision, err)
	}
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if id, ref, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			found[ref] = id
		}
	}
	for _, ref := range []string{tag + "^{}", tag, branch} {
		if found[ref] != "" {
			return found[ref], nil
		}
	}
	return "", fmt.Errorf("%s has no tag or branch %s", g.url.JoinPath(repository), revision)
}

// gitName reports whether s can be the name of an owner or a repository.
func gitName(s string) bool {
	return s != "" && len(s) <= 100 && s[0] != '-' && s[0] != '.' && strings.IndexFunc(s, func(r rune) bool { return !wordRune(r) }) < 0
}

// gitRevision reports whether s can be the name of a tag or branch.
func gitRevision(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		if !gitName(part) || strings.Contains(part, "..") || strings.HasSuffix(part, ".lock") {
			return false
		}
	}
	return len(s) <= 200
}
