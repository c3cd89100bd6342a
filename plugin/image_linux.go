package plugin

import (
	"fmt"
	"os"
)

// imageDigest returns the sha256 of what the process pid executes. It is want
// without looking if that is the file copy, whose content was checked.
func imageDigest(pid int, copied, want string) (string, error) {
	path := fmt.Sprintf("/proc/%d/exe", pid)
	image, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if fi, err := os.Stat(copied); err == nil && os.SameFile(fi, image) {
		return want, nil
	}
	f, err := openRegular(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	return digestOf(f)
}

// ours reports whether the process pid, begun as it says, has been started for
// the room at dir.
func ours(pid int, begun, dir string) bool {
	if now, err := identify(pid); err != nil || now != begun || !marked(pid, []byte(roomKey+"="+dir)) {
		return false
	}
	now, err := identify(pid) // the same process still: it was the one with the mark
	return err == nil && now == begun
}
