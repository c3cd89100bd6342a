package health

import (
	"slices"
	"time"
)

// DefaultRules returns the reference table (memory above 85 %, heartbeat latency
// above 2 s, any plugin exception) and a rule for each of the other indicators
// that this package has constants for. A new slice each time.
func DefaultRules() []Rule { return slices.Concat(referenceRules(), processRules(), agentRules()) }

func referenceRules() []Rule {
	return []Rule{
		{
			Name: "memory", Indicator: MemoryPercent, Every: 10 * time.Second,
			Above: 85, Clear: 80, For: 30 * time.Second, KeepFiring: time.Minute,
			Summary: "The process is close to its memory limit, where it is killed.",
		},
		{
			Name: "heartbeat", Indicator: HeartbeatLatency, Every: 5 * time.Second,
			Above: 2, Clear: 1, For: 10 * time.Second, KeepFiring: 30 * time.Second, Severity: Critical,
			Summary: "etcd answers the agent's heartbeats late or not at all.",
		},
		{
			Name: "plugin_exceptions", Indicator: PluginExceptions, Every: 30 * time.Second,
			Above: 0, KeepFiring: 5 * time.Minute, Fold: Sum,
			Summary: "A plugin failed with an exception.",
		},
	}
}

// processRules are of what the Monitor measures besides.
func processRules() []Rule {
	return []Rule{
		{
			Name: "open_files", Indicator: OpenFilesPercent, Every: 30 * time.Second,
			Above: 80, Clear: 70, For: time.Minute, KeepFiring: time.Minute,
			Summary: "The process is close to its limit of open files, where it can accept no connection.",
		},
		{
			Name: "goroutines", Indicator: Goroutines, Every: 10 * time.Second,
			Above: 10_000, Clear: 8_000, For: 5 * time.Minute, KeepFiring: time.Minute,
			Summary: "The process has so many goroutines that some of them may never end.",
		},
		{
			Name: "disk", Indicator: DiskUsedPercent, Every: 30 * time.Second,
			Above: 90, Clear: 85, For: time.Minute, KeepFiring: time.Minute, Severity: Critical,
			Summary: "The file system of the agent's state is almost full: upgrades and records will fail.",
		},
		{
			Name: "cpu_throttled", Indicator: CPUThrottledPercent, Every: 10 * time.Second,
			Above: 25, Clear: 10, For: 5 * time.Minute, KeepFiring: time.Minute,
			Summary: "The process uses up its CPU quota: everything it does is late.",
		},
		{
			Name: "event_loop_lag", Indicator: EventLoopLag, Every: 10 * time.Second,
			Above: 0.5, Clear: 0.25, For: time.Minute, KeepFiring: time.Minute,
			Summary: "Timers of the process fire late: it is short of CPU.",
		},
	}
}

// agentRules are of what the agent measures or pushes besides.
func agentRules() []Rule {
	return []Rule{
		{
			Name: "clock_offset", Indicator: ClockOffset, Every: 5 * time.Minute,
			Above: 5, Clear: 2, For: 5 * time.Minute,
			Summary: "The clocks of this host and of an etcd member disagree.",
		},
		{
			Name: "requests_slow", Indicator: RequestP95, Every: 10 * time.Second,
			Above: 0.5, For: 3 * time.Minute, KeepFiring: time.Minute,
			Summary: "One request in twenty takes longer than half a second.",
			Expr:    "histogram_quantile(0.95, sum by (job, instance, le) (rate(perennial_request_duration_seconds_bucket[1m])))",
		},
		{
			Name: EtcdStale, Indicator: EtcdStale, Every: 5 * time.Second,
			Above:   120, // when the agent's watch should have noticed and listed anew
			Summary: "What the agent sees of etcd is old.",
		},
		{
			Name: ReleaseYanked, Indicator: ReleaseYanked, Every: 5 * time.Second,
			Summary: "The release that runs was withdrawn by its publisher.",
		},
		{
			Name: ReleaseKeyRevoked, Indicator: ReleaseKeyRevoked, Every: 5 * time.Second, Severity: Critical,
			Summary: "The key that signed the release that runs is revoked.",
		},
	}
}
