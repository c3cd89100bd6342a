//go:build !unix

package release

import "io/fs"

const openNoWait = 0

// guarded is never sure here, where a mode says nothing about other users: an
// entry is then verified each time and never linked to.
func guarded(fs.FileInfo) bool { return false }

// exclusive relies on the access list of the directory here.
func exclusive(info fs.FileInfo) bool { return info.Mode().IsRegular() }
