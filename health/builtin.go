package health

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"time"
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
		{Name: Goroutines, Unit: "goroutines", Help: "Number of goroutines.", Measure: measureGoroutines},
		{Name: EventLoopLag, Unit: "seconds", Help: "How late a timer of the process fired, at worst.", Measure: m.measureLag},
		{Name: HeartbeatLatency, Unit: "seconds", Help: "Round trip of a heartbeat.", Every: 5 * time.Second},
		{Name: PluginExceptions, Unit: "exceptions", Help: "New exceptions of plugins.", Every: 30 * time.Second},
		{Name: RequestP95, Unit: "seconds", Help: "95th percentile of the duration of requests."},
		{Name: EtcdStale, Unit: "seconds", Help: "Age of what the agent sees of etcd.", Every: 5 * time.Second},
		{Name: ReleaseYanked, Help: "1 while the release that runs is withdrawn.", Every: 5 * time.Second},
		{Name: ReleaseKeyRevoked, Help: "1 while the key that signed the release that runs is revoked.", Every: 5 * time.Second},
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
