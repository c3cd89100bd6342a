package main

import (
	"hash/fnv"
	"io/fs"
)

// identity is the path: a renamed file is not recognised here.
func identity(path string, _ fs.FileInfo) (dev, inode uint64) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(path))
	return 0, h.Sum64()
}
