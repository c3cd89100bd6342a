package health

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/perennial-go/perennial/internal/cgroup"
	"github.com/perennial-go/perennial/internal/disk"
	"github.com/perennial-go/perennial/internal/openfiles"
)

// addIndicators declares the built-in indicators, those of cfg and the rules.
func (m *Monitor) addIndicators(cfg Config) error {
	all := map[string]int{}
	var list []Indicator
	if !cfg.NoBuiltIn {
		list = m.builtIn(cfg.DiskPath)
		for n, i := range list {
			all[i.Name] = n
		}
	}
	settled := map[string]bool{}
	for _, i := range cfg.Indicators {
		n, builtIn := all[i.Name]
		if !builtIn {
			list = append(list, i)
			continue
		}
		if settled[i.Name] {
			return fmt.Errorf("%w: two indicators are called %s", ErrDuplicate, i.Name)
		}
		settled[i.Name] = true
		list[n] = list[n].settledBy(i)
	}
	for _, i := range list {
		m.lag.wanted = m.lag.wanted || i.Name == EventLoopLag && !cfg.NoBuiltIn
		if err := m.AddIndicator(i); err != nil {
			return err
		}
	}
	rules := cfg.Rules
	if rules == nil {
		rules = DefaultRules()
	}
	for _, r := range rules {
		if err := m.addRule(r); err != nil {
			return err
		}
	}
	return nil
}

func (i Indicator) settledBy(o Indicator) Indicator {
	i.Unit, i.Help = cmp.Or(o.Unit, i.Unit), cmp.Or(o.Help, i.Help)
	i.Every, i.Timeout = cmp.Or(o.Every, i.Every), cmp.Or(o.Timeout, i.Timeout)
	if o.Measure != nil {
		i.Measure = o.Measure
	}
	i.Rules = o.Rules
	return i
}

// builtIn returns what is measured here, and what the agent pushes.
func (m *Monitor) builtIn(diskPath string) []Indicator {
	list := []Indicator{
		{Name: MemoryPercent, Unit: "percent", Help: "Working set in percent of the memory limit.", Measure: measureMemory},
		{Name: OpenFilesPercent, Unit: "percent", Help: "Open file descriptors in percent of what the process may open.", Every: 30 * time.Second, Measure: measureOpenFiles},
		{Name: CPUThrottledPercent, Unit: "percent", Help: "Scheduler periods in which the CPU quota was used up, in percent.", Measure: throttling()},
		{Name: Goroutines, Unit: "goroutines", Help: "Number of goroutines.", Measure: measureGoroutines},
		{Name: EventLoopLag, Unit: "seconds", Help: "How late a timer of the process fired, at worst.", Measure: m.measureLag},
		{Name: HeartbeatLatency, Unit: "seconds", Help: "Round trip of a heartbeat.", Every: 5 * time.Second},
		{Name: PluginExceptions, Unit: "exceptions", Help: "New exceptions of plugins.", Every: 30 * time.Second},
		{Name: ClockOffset, Unit: "seconds", Help: "How far this host's clock and that of an etcd member are apart at least.", Every: 5 * time.Minute, Timeout: 5 * time.Second},
		{Name: RequestP95, Unit: "seconds", Help: "95th percentile of the duration of requests."},
		{Name: EtcdStale, Unit: "seconds", Help: "Age of what the agent sees of etcd.", Every: 5 * time.Second},
		{Name: ReleaseYanked, Help: "1 while the release that runs is withdrawn.", Every: 5 * time.Second},
		{Name: ReleaseKeyRevoked, Help: "1 while the key that signed the release that runs is revoked.", Every: 5 * time.Second},
	}
	if diskPath != "" {
		list = append(list, Indicator{
			Name: DiskUsedPercent, Unit: "percent", Help: "How full the file system of the agent's state is, in percent.",
			Every: 30 * time.Second, Measure: measureDisk(diskPath),
		})
	}
	return list
}

func measureMemory(context.Context) (Sample, error) {
	use, err := MemoryOf("/", "self")
	if err != nil {
		return Sample{}, err
	}
	return Sample{Value: use.Percent(), Basis: use.Basis()}, nil
}

func measureGoroutines(context.Context) (Sample, error) {
	return Sample{Value: float64(runtime.NumGoroutine()), Basis: "of this process"}, nil
}

func measureOpenFiles(context.Context) (Sample, error) {
	limit, err := openfiles.Limit()
	if err != nil {
		return Sample{}, err
	}
	open, err := openfiles.Count("self")
	return openFiles(open, limit, err)
}

func openFiles(open int, limit uint64, err error) (Sample, error) {
	switch {
	case errors.Is(err, syscall.EMFILE): // what the figure is there to tell
		return Sample{Value: 100, Basis: fmt.Sprintf("all of %d: none was left to count them", limit)}, nil
	case err != nil:
		return Sample{}, err
	case limit == openfiles.Unlimited:
		return Sample{Basis: fmt.Sprintf("%d open, no limit", open)}, nil
	case limit == 0:
		return Sample{}, fmt.Errorf("the limit of open files is 0: no percentage of nothing, and %d are open", open)
	}
	return Sample{Value: 100 * float64(open) / float64(limit), Basis: fmt.Sprintf("%d of %d", open, limit)}, nil
}

func measureDisk(path string) func(context.Context) (Sample, error) {
	return func(context.Context) (Sample, error) {
		use, err := disk.UseOf(path)
		if err != nil {
			return Sample{}, fmt.Errorf("disk of %s: %w", path, err)
		}
		return Sample{Value: use.Percent(), Basis: path + ", " + use.Basis()}, nil
	}
}

func throttling() func(context.Context) (Sample, error) {
	t := cgroup.NewThrottling("/", "self")
	return func(context.Context) (Sample, error) {
		if runtime.GOOS != "linux" {
			return Sample{}, fmt.Errorf("CPU throttling on %s: %w: only Linux is measured", runtime.GOOS, errors.ErrUnsupported)
		}
		got, known, err := t.Measure()
		if err == nil && !known {
			err = ErrNoSample
		}
		return Sample{Value: got.Percent, Basis: got.Basis}, err
	}
}
