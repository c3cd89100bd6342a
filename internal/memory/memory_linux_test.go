package memory

import (
	"errors"
	"strings"
	"testing"
)

// A container is killed for what its limit does not allow, however much the
// host has.
func TestTheTightestLimitCounts(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		where string
	}{
		"no cgroups":       {merge(), 600000 << 10, "MemAvailable"},
		"no limit":         {merge(process("0::/\n", v2Mount), v2(cg, "max", 1, 0)), 600000 << 10, "MemAvailable"},
		"limit of its own": {merge(process("0::/a/b\n", v2Mount), v2(cg+"/a/b", "600000", 200_000, 0)), 400_000, "cgroup /sys/fs/cgroup/a/b"},
		"limit above it":   {merge(process("0::/a/b\n", v2Mount), v2(cg+"/a", "500000", 200_000, 0), v2(cg+"/a/b", "max", 1, 0)), 300_000, "cgroup /sys/fs/cgroup/a"},
		"least room":       {merge(process("0::/a/b\n", v2Mount), v2(cg+"/a", "500000", 400_000, 0), v2(cg+"/a/b", "300000", 1, 0)), 100_000, "cgroup /sys/fs/cgroup/a"},
		"page cache":       {merge(process("0::/a\n", v2Mount), v2(cg+"/a", "500000", 400_000, 150_000)), 250_000, "cgroup /sys/fs/cgroup/a"},
		"used up":          {merge(process("0::/a\n", v2Mount), v2(cg+"/a", "500000", 600_000, 0)), 0, "cgroup /sys/fs/cgroup/a"},
		"larger than host": {merge(process("0::/a\n", v2Mount), v2(cg+"/a", "5000000000", 1, 0)), 600000 << 10, "MemAvailable"},
		"usage unknown":    {merge(process("0::/a\n", v2Mount), map[string]string{cg + "/a/memory.max": "500"}), 600000 << 10, "MemAvailable"},
		"version 1":        {merge(process("4:memory:/a\n", v1Mount), v1(mem1+"/a", "500000", 400_000, 150_000, "")), 250_000, "cgroup /sys/fs/cgroup/memory/a"},
		"version 1, none":  {merge(process("4:memory:/a\n", v1Mount), v1(mem1+"/a", none, 1, 0, "")), 600000 << 10, "MemAvailable"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(tree(t, c.files))
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
