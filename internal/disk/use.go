package disk

import "fmt"

// Use is how full a file system is.
type Use struct {
	// Used and Usable are in bytes: what is taken, and what that and what this
	// user may still write come to.
	Used, Usable uint64
	// Files and FilesUsable are the same in inodes; FilesUsable is 0 where
	// there is no such bound.
	Files, FilesUsable uint64
}

// Percent is what is used of the bytes or of the inodes, whichever is more.
func (u Use) Percent() float64 {
	return max(percent(u.Used, u.Usable), percent(u.Files, u.FilesUsable))
}

// Basis says what Percent is of, for people.
func (u Use) Basis() string {
	if percent(u.Files, u.FilesUsable) > percent(u.Used, u.Usable) {
		return fmt.Sprintf("%d of %d inodes", u.Files, u.FilesUsable)
	}
	return fmt.Sprintf("%.1f of %.1f GiB", float64(u.Used)/(1<<30), float64(u.Usable)/(1<<30))
}

func percent(used, usable uint64) float64 {
	if usable == 0 {
		return 0
	}
	return 100 * float64(used) / float64(usable)
}
