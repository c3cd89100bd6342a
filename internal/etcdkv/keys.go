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
