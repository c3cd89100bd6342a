package plugin

import "io/fs"

const openFlags = 0

// trusted knows nothing of access control lists.
func trusted(fs.FileInfo) error { return nil }

// inode has no counterpart in what os.Stat returns here.
func inode(fs.FileInfo) string { return "" }
