package oci

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/perennial-go/perennial/upgrade/release"
)

// The schemes of locations.
const (
	schemeRegistry = "oci://"
	schemePlain    = "oci+http://"
	schemeLayout   = "oci-layout:"
)

// location is where a repository is: a directory, or a repository of a
// registry.
type location struct {
	dir   string
	ref   Reference
	plain bool
}

// IsLocation reports whether s has one of this package's schemes, in any case:
// oci://, oci+http:// or oci-layout:.
func IsLocation(s string) bool {
	for _, scheme := range []string{schemeRegistry, schemePlain, schemeLayout} {
		if _, ok := cutScheme(s, scheme); ok {
			return true
		}
	}
	return false
}

// cutScheme is strings.CutPrefix where case does not matter.
func cutScheme(s, scheme string) (rest string, ok bool) {
	if len(s) < len(scheme) || !strings.EqualFold(s[:len(scheme)], scheme) {
		return s, false
	}
	return s[len(scheme):], true
}

// NewSource returns the source for a location: one of this package
// (oci://host/repository, oci+http://host/repository, oci-layout:PATH) or any
// that release.NewSource takes. Nothing is read yet.
func NewSource(location string) (release.Source, error) {
	if !IsLocation(location) {
		return release.NewSource(location)
	}
	return New(Config{Location: location})
}

func parseLocation(s string) (location, error) {
	if dir, ok := cutScheme(s, schemeLayout); ok {
		if dir == "" || strings.HasPrefix(dir, "//") {
			return location{}, fmt.Errorf("OCI layout %.200q: want the path of a directory, such as oci-layout:/srv/releases", s)
		}
		return location{dir: dir}, nil
	}
	rest, plain := cutScheme(s, schemePlain)
	if !plain {
		var ok bool
		if rest, ok = cutScheme(s, schemeRegistry); !ok {
			return location{}, errors.New("OCI location: want oci://host/repository, oci+http://host/repository or oci-layout:PATH")
		}
	}
	ref, err := ParseReference(rest)
	if bare, only := repositoryOf(rest); only {
		scheme := s[:len(s)-len(rest)]
		if strings.Contains(s, "@") {
			s = scheme + bare // not what may be a password
		}
		return location{}, fmt.Errorf("OCI location %.200q has more to it than the repository, a tag or a digest: write %s%s for the repository, and give the version where the release is asked for", s, scheme, bare)
	}
	if err != nil {
		return location{}, err
	}
	return location{ref: ref, plain: plain}, nil
}

// repositoryOf returns the repository of a reference that has more than that
// to it, whatever that is.
func repositoryOf(reference string) (name string, more bool) {
	bare, _, _ := strings.Cut(reference, "@")
	host, path, _ := strings.Cut(bare, "/")
	path, _, _ = strings.Cut(path, ":")
	ref, err := ParseReference(host + "/" + path)
	return ref.Name(), err == nil && ref.Name() != reference
}

// loopback reports whether the registry is on this host, where encryption
// protects nothing.
func (r Reference) loopback() bool {
	host := r.Host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}
