package etcdkv

import (
	"fmt"
	"strings"

	"github.com/perennial-go/perennial/internal/ident"
)

// DefaultRoot is the prefix of every key unless another is set.
const DefaultRoot = "/agents/"

// ValidID reports whether id may be part of a key: ids of agents, names of
// groups and fleets. It is an error that says what is allowed otherwise.
func ValidID(id string) error {
	if !ident.Valid(id, "._-") {
		return fmt.Errorf("id %q: want a letter or digit, then up to 127 letters, digits, dots, underscores or hyphens", id)
	}
	return nil
}

// CleanRoot returns root as a prefix of keys: DefaultRoot if it is empty, and
// always with a slash at both ends.
func CleanRoot(root string) string {
	root = strings.Trim(root, "/")
	if root == "" {
		return DefaultRoot
	}
	return "/" + root + "/"
}

// maxRoot leaves room for the rest of a key in what people can read.
const maxRoot = 256

// ValidRoot reports whether root may be the prefix of all keys. It is an error
// that says what is allowed otherwise: what looks like a path is taken for
// bytes by etcd, so that "a/../b" would be neither "b" nor below it.
func ValidRoot(root string) error {
	trimmed := strings.Trim(root, "/")
	if trimmed == "" {
		return nil
	}
	if len(trimmed) > maxRoot {
		return fmt.Errorf("root of %d bytes: want at most %d", len(trimmed), maxRoot)
	}
	for part := range strings.SplitSeq(trimmed, "/") {
		if ValidID(part) != nil {
			return fmt.Errorf("root %q: want parts of letters, digits, dots, underscores and hyphens that begin with a letter or digit, such as /agents/, found %q", root, part)
		}
	}
	return nil
}
