package agent

import (
	"context"
	"slices"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// withClock has the indicator ClockOffset measured, unless the program does so
// or wants none.
func withClock(cfg health.Config, etcd EtcdConfig) health.Config {
	if cfg.NoBuiltIn {
		return cfg
	}
	cfg.Indicators = slices.Clone(cfg.Indicators)
	n := slices.IndexFunc(cfg.Indicators, func(i health.Indicator) bool { return i.Name == health.ClockOffset })
	if n < 0 {
		n = len(cfg.Indicators)
		cfg.Indicators = append(cfg.Indicators, health.Indicator{Name: health.ClockOffset})
	}
	if cfg.Indicators[n].Measure == nil {
		cfg.Indicators[n].Measure = measureClock(etcd)
	}
	return cfg
}

func measureClock(etcd EtcdConfig) func(context.Context) (health.Sample, error) {
	var clock *etcdkv.Clock // made late: whether etcd's files are in order is for Run to say
	return func(ctx context.Context) (health.Sample, error) {
		if clock == nil {
			c, err := etcdkv.NewClock(etcd.client(nil, nil))
			if err != nil {
				return health.Sample{}, err
			}
			clock = c
		}
		o, err := clock.Compare(ctx)
		if err != nil {
			return health.Sample{}, err
		}
		return health.Sample{Value: o.Apart().Seconds(), Basis: o.Basis()}, nil
	}
}
