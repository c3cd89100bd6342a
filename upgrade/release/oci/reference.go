package oci

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/perennial-go/perennial/internal/ident"
	"github.com/perennial-go/perennial/upgrade/release"
)

const (
	maxHost       = 255
	maxRepository = 255
	maxReference  = 1024
)

// Reference names a repository of a registry, or one release in it.
type Reference struct {
	// Host is the registry: a host name or address, with :port if need be.
	Host string
	// Repository is the path of the repository, in lower case.
	Repository string
	// Version is an exact version, or empty.
	Version string
	// Digest is "sha256:" and 64 lower-case hexadecimal digits, or empty.
	Digest string
}

// String returns the form that ParseReference reads.
func (r Reference) String() string {
	s := r.Name()
	if r.Version != "" {
		s += ":" + r.Version
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// Name returns host/repository alone.
func (r Reference) Name() string { return r.Host + "/" + r.Repository }

// ParseReference reads host[:port]/repository[:version][@sha256:digest].
// Nothing is guessed: there is no default registry, namespace or tag. A tag
// that is no exact version moves, and is refused with an error that wraps
// release.ErrFloatingTag and says what to write.
func ParseReference(s string) (Reference, error) {
	if len(s) > maxReference {
		return Reference{}, fmt.Errorf("OCI reference of %d characters: want host/repository, at most %d characters", len(s), maxReference)
	}
	var r Reference
	name, digest, pinned := strings.Cut(s, "@")
	if pinned {
		if !validDigest(digest) {
			// What stands before an @ may be a password.
			return Reference{}, errors.New("OCI reference: after the @ there is no digest: want @sha256: and 64 lower-case hexadecimal digits, and credentials in docker's configuration (docker login)")
		}
		r.Digest = digest
	}
	host, path, ok := strings.Cut(name, "/")
	if !ok {
		return Reference{}, fmt.Errorf("OCI reference %.200q: want host/repository, such as registry.example.com/agentd", s)
	}
	path, tag, tagged := strings.Cut(path, ":")
	r.Host, r.Repository = host, path
	if err := checkHost(host); err != nil {
		return Reference{}, fmt.Errorf("OCI reference %.200q: %w", s, err)
	}
	if !validRepository(path) {
		return Reference{}, fmt.Errorf("OCI reference %.200q: repository %.100q: want lower-case letters and digits, separated by . _ - or /, such as team/agentd", s, path)
	}
	if !tagged {
		return r, nil
	}
	if _, err := release.ParseVersion(tag); err != nil {
		return Reference{}, fmt.Errorf("OCI reference %.200q: tag: %w, or the digest, such as %s@sha256:…", s, err, r.Name())
	}
	if strings.Contains(tag, "+") {
		return Reference{}, fmt.Errorf("OCI reference %.200q: build metadata cannot be part of a tag: write the digest of the release, such as %s@sha256:…", s, r.Name())
	}
	r.Version = tag
	return r, nil
}

func checkHost(s string) error {
	advice := fmt.Errorf("registry %.100q: want a host name or address in lower case, and a port if need be, such as registry.example.com:5000", s)
	host := s
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		port, err := strconv.ParseUint(s[i+1:], 10, 16)
		if err != nil || port == 0 || strconv.FormatUint(port, 10) != s[i+1:] {
			return advice
		}
		host = s[:i]
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if addr, err := netip.ParseAddr(inner); !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return advice
		}
		return nil
	}
	if len(host) > maxHost || strings.Contains(host, ":") {
		return advice
	}
	for label := range strings.SplitSeq(host, ".") {
		if len(label) > 63 || !words(label, "-") {
			return advice
		}
	}
	return nil
}

// validRepository follows the distribution specification.
func validRepository(s string) bool {
	if len(s) > maxRepository {
		return false
	}
	for part := range strings.SplitSeq(s, "/") {
		if !words(part, "._-") {
			return false
		}
	}
	return true
}

// words reports whether s is lower-case letters and digits with separators
// between them: one dot, one or two underscores, or any number of hyphens.
func words(s, separators string) bool {
	alnum := func(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	if s == "" || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); {
		if alnum(s[i]) {
			i++
			continue
		}
		end := i
		for end < len(s) && s[end] == s[i] {
			end++
		}
		run := end - i
		if strings.IndexByte(separators, s[i]) < 0 || s[i] == '.' && run > 1 || s[i] == '_' && run > 2 || !alnum(s[end]) {
			return false
		}
		i = end
	}
	return true
}

const digestPrefix = "sha256:"

func validDigest(s string) bool {
	h, ok := strings.CutPrefix(s, digestPrefix)
	return ok && ident.SHA256(h)
}
