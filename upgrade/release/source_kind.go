package release

import (
	"fmt"
	"os"
	"path/filepath"
)

// layoutFile marks a directory as an OCI image layout, which has an index.json
// of its own.
const layoutFile = "oci-layout"

// misplaced says what a source is in which nothing was found that reads as a
// repository, nil if that cannot be told. It looks at directories only.
func misplaced(src Source) error {
	switch s := src.(type) {
	case interface{ Unwrap() Source }: // one that watches another
		return misplaced(s.Unwrap())
	case *Cache:
		return misplaced(s.cfg.Source)
	case *Dir:
		if _, err := os.Lstat(filepath.Join(s.path, layoutFile)); err == nil {
			return fmt.Errorf("%s is an OCI image layout and no repository directory: give oci-layout:%s to read it, and another directory to publish to", s.path, s.path)
		}
	}
	return nil
}
