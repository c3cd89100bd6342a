package plugin

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Limits bound what one plugin's processes may use together. A field that is
// 0 is no limit.
type Limits struct {
	// MemoryBytes is written as a number of bytes with a unit: B, KiB, MiB or
	// GiB. At least 1 MiB.
	MemoryBytes int64
	// CPU is in cores: 0.5 is half of one. At least 0.01.
	CPU float64
	// Processes counts processes and threads.
	Processes int
	// Files counts open descriptors of each process.
	Files int
}

// The bounds of limits: below them no process starts, above them the figure
// is a mistake.
const (
	minMemoryBytes = 1 << 20
	minCPU, maxCPU = 0.01, 4096
	minProcesses   = 1
	maxProcesses   = 1 << 22
	minFiles       = 16
	maxFiles       = 1 << 20
)

// limitsText is how a manifest writes Limits.
type limitsText struct {
	Memory    string  `yaml:"memory,omitempty"`
	CPU       float64 `yaml:"cpu,omitempty"`
	Processes whole   `yaml:"processes,omitempty"`
	Files     whole   `yaml:"files,omitempty"`
}

// whole is a number that yaml does not round.
type whole int

// UnmarshalYAML implements yaml.Unmarshaler.
func (w *whole) UnmarshalYAML(n *yaml.Node) error {
	if n.ShortTag() != "!!int" {
		return fmt.Errorf("line %d: want a whole number, found %q", n.Line, n.Value)
	}
	return n.Decode((*int)(w))
}

// UnmarshalYAML implements yaml's older Unmarshaler, which unlike the newer one
// keeps the decoder strict about unknown fields.
func (l *Limits) UnmarshalYAML(decode func(any) error) error {
	var t limitsText
	if err := decode(&t); err != nil {
		return err
	}
	*l = Limits{CPU: t.CPU, Processes: int(t.Processes), Files: int(t.Files)}
	if t.Memory == "" {
		return nil
	}
	var err error
	l.MemoryBytes, err = parseSize(t.Memory)
	return err
}

// MarshalYAML implements yaml.Marshaler.
func (l Limits) MarshalYAML() (any, error) {
	t := limitsText{CPU: l.CPU, Processes: whole(l.Processes), Files: whole(l.Files)}
	if l.MemoryBytes != 0 {
		t.Memory = formatSize(l.MemoryBytes)
	}
	return t, nil
}

// units are those of a size, the largest first.
func units() []struct {
	name string
	size int64
} {
	return []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

func parseSize(s string) (int64, error) {
	for _, u := range units() {
		digits, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n <= 0 || n > math.MaxInt64/u.size {
			break
		}
		return n * u.size, nil
	}
	return 0, fmt.Errorf("limits: memory: want a whole number with B, KiB, MiB or GiB such as 256MiB, found %q", s)
}

func formatSize(n int64) string {
	for _, u := range units() {
		if n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.name
		}
	}
	return "" // not reached: every number is whole in bytes
}

func (l Limits) validate() error {
	switch {
	case l.MemoryBytes != 0 && l.MemoryBytes < minMemoryBytes:
		return fmt.Errorf("limits: memory: want at least %s, found %s", formatSize(minMemoryBytes), formatSize(l.MemoryBytes))
	case l.CPU != 0 && !(l.CPU >= minCPU && l.CPU <= maxCPU): // NaN too
		return fmt.Errorf("limits: cpu: want %g to %g cores, found %g", minCPU, float64(maxCPU), l.CPU)
	case l.Processes != 0 && (l.Processes < minProcesses || l.Processes > maxProcesses):
		return fmt.Errorf("limits: processes: want %d to %d, found %d", minProcesses, maxProcesses, l.Processes)
	case l.Files != 0 && (l.Files < minFiles || l.Files > maxFiles):
		return fmt.Errorf("limits: files: want %d to %d, found %d", minFiles, maxFiles, l.Files)
	}
	return nil
}
