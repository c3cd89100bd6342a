//go:build !linux

package upgrade

import (
	"os"
	"time"
)

// family is a successor whose children cannot be told without /proc. Where
// there are process groups, its own ends with it.
type family struct {
	pid int // as the successor told; 0 before
}

func newFamily(string, *os.File) (*family, error) { return &family{}, nil }

// head is told by the successor itself here.
func (f *family) head() int { return 0 }

// told is the only source, and what it tells may be nonsense.
func (f *family) told(pid int) {
	if pid > 1 && pid != os.Getpid() {
		f.pid = pid
	}
}

func (f *family) seen(pid int) { f.pid = pid }

// end kills the successor and what is still in its process group.
func (f *family) end(time.Duration) int {
	if f.pid == 0 {
		return 0
	}
	killGroup(f.pid)
	if p, err := os.FindProcess(f.pid); err == nil {
		_ = p.Kill()
	}
	return 0
}

func (f *family) condition() string { return "" }
