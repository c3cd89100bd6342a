package agent

import (
	"cmp"
	"context"
	"slices"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
)

// withMeasured has the agent measure a built-in indicator, unless the program
// does so or wants none that is built in. What the program settles of it stays.
func withMeasured(cfg health.Config, own health.Indicator) []health.Indicator {
	n := slices.IndexFunc(cfg.Indicators, func(i health.Indicator) bool { return i.Name == own.Name })
	switch {
	case cfg.NoBuiltIn, n >= 0 && cfg.Indicators[n].Measure != nil:
		return cfg.Indicators
	case n < 0:
		return append(slices.Clone(cfg.Indicators), own)
	}
	all := slices.Clone(cfg.Indicators)
	all[n].Every, all[n].Measure = cmp.Or(all[n].Every, own.Every), own.Measure
	return all
}

// clockIndicator compares the host's clock with those of etcd's members.
func clockIndicator(etcd EtcdConfig) health.Indicator {
	return health.Indicator{Name: health.ClockOffset, Measure: measureClock(etcd)}
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
