package memory

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A container is killed for what its limit does not allow, however much the
// host has.
func TestTheTightestLimitCounts(t *testing.T) {
	for name, c := range map[string]struct {
		groups map[string]string // file below the cgroup root: content
		own    string
		want   int64
		where  string
	}{
		"no limit":         {own: "0::/\n", want: 1000 << 10, where: "MemAvailable"},
		"no cgroup 2":      {own: "4:memory:/x\n", want: 1000 << 10, where: "MemAvailable"},
		"limit of its own": {own: "0::/a/b\n", groups: map[string]string{"a/b/memory.max": "600000\n", "a/b/memory.current": "200000\n"}, want: 400_000, where: "cgroup /a/b"},
		"limit above it":   {own: "0::/a/b\n", groups: map[string]string{"a/memory.max": "500000\n", "a/memory.current": "200000\n", "a/b/memory.max": "max\n", "a/b/memory.current": "1\n"}, want: 300_000, where: "cgroup /a"},
		"page cache":       {own: "0::/a\n", groups: map[string]string{"a/memory.max": "500000\n", "a/memory.current": "400000\n", "a/memory.stat": "anon 7\ninactive_file 150000\n"}, want: 250_000, where: "cgroup /a"},
		"used up":          {own: "0::/a\n", groups: map[string]string{"a/memory.max": "500000\n", "a/memory.current": "600000\n"}, want: 0, where: "cgroup /a"},
		"larger than host": {own: "0::/a\n", groups: map[string]string{"a/memory.max": "5000000000\n", "a/memory.current": "1\n"}, want: 1000 << 10, where: "MemAvailable"},
		"path that climbs": {own: "0::/../../a\n", groups: map[string]string{"a/memory.max": "500\n", "a/memory.current": "0\n"}, want: 500, where: "cgroup /a"},
	} {
		t.Run(name, func(t *testing.T) {
			proc, groups := t.TempDir(), t.TempDir()
			write(t, filepath.Join(proc, "meminfo"), "MemTotal: 9999 kB\nMemAvailable:    1000 kB\n")
			write(t, filepath.Join(proc, "self", "cgroup"), c.own)
			for file, text := range c.groups {
				write(t, filepath.Join(groups, file), text)
			}
			got, err := read(proc, groups)
			if err != nil || got.Bytes != c.want || !strings.Contains(got.Where, c.where) {
				t.Errorf("%+v, %v; want %d by %s", got, err, c.want, c.where)
			}
		})
	}
}

func TestWantOfMemoryIsTold(t *testing.T) {
	f, err := Now()
	if err != nil || f.Bytes < 1<<20 {
		t.Fatalf("%+v, %v", f, err)
	}
	if err := f.Check(1); err != nil {
		t.Error(err)
	}
	err = f.Check(f.Bytes + 1)
	if !errors.Is(err, ErrNotEnough) || !strings.Contains(err.Error(), f.Where) {
		t.Errorf("%v, want ErrNotEnough that names %s", err, f.Where)
	}
}
