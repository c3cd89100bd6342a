package upgrade

import "github.com/prometheus/client_golang/prometheus"

// The values of class of perennial_version_drift, beside those of Class.
const (
	driftInProgress  = "in_progress"
	driftFailed      = "failed"      // before anything was started
	driftInterrupted = "interrupted" // by the end of the agent
)

// metrics shows an Upgrader to Prometheus.
type metrics struct {
	u *Upgrader

	state, held, drift              *prometheus.Desc
	attempts, durations, pauses     *prometheus.Desc
	downloaded, obtained, savedPart *prometheus.Desc
}

// Metrics shows how upgrades fare; its names begin with perennial_upgrade_, but
// for perennial_version_drift. Counters go on from one process to the next: they
// are of the state directory. It may be collected at any time.
func (u *Upgrader) Metrics() prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("perennial_"+name, help, labels, nil)
	}
	return &metrics{
		u:          u,
		state:      desc("upgrade_state", "1 for the state that the last attempt is in.", "state"),
		held:       desc("upgrade_held", "1 while an operator keeps the host out of upgrades."),
		drift:      desc("version_drift", "1 while what runs is not what was last asked for, by why.", "class"),
		attempts:   desc("upgrade_attempts_total", "Attempts to change the release that have ended, by outcome.", "outcome"),
		durations:  desc("upgrade_duration_seconds", "Time from the request to the end of an attempt.", "outcome"),
		pauses:     desc("upgrade_swap_pause_seconds", "Time in which no process took connections: they waited, and none was refused.", "outcome"),
		downloaded: desc("upgrade_download_bytes_total", "Bytes of releases that were downloaded, by the form that gave the executable.", "form"),
		obtained:   desc("upgrade_obtained_bytes_total", "Bytes of the executables that downloads gave, by form.", "form"),
		savedPart:  desc("upgrade_download_saved_ratio", "Part of the executables' bytes that was not downloaded, of all downloads."),
	}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		m.state, m.held, m.drift, m.attempts, m.durations, m.pauses, m.downloaded, m.obtained, m.savedPart,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	status, t := m.u.Status(), m.u.counted.Load()
	if t == nil {
		t = &totals{}
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, labels...)
	}
	is := func(d *prometheus.Desc, yes bool, labels ...string) {
		value := 0.0
		if yes {
			value = 1
		}
		send(d, prometheus.GaugeValue, value, labels...)
	}
	state := status.State
	switch {
	case m.u.onTrial.Load():
		state = Probation
	case state == "":
		state = Idle
	}
	for _, s := range states() {
		is(m.state, s == state, string(s))
	}
	is(m.held, status.Hold != nil)
	class := status.drift()
	for _, c := range []string{driftInProgress, driftFailed, driftInterrupted, string(BadBinary), string(BadEnvironment)} {
		is(m.drift, c == class, c)
	}
	for _, o := range outcomes() {
		s := t.Ended[o]
		send(m.attempts, prometheus.CounterValue, float64(s.Count), string(o))
		ch <- s.histogram(m.durations, attemptBounds(), string(o))
	}
	for _, o := range []Outcome{OutcomeCommitted, OutcomeRolledBack} {
		ch <- t.Pauses[o].histogram(m.pauses, pauseBounds(), string(o))
	}
	var all downloaded
	for _, form := range forms() {
		d := t.Downloads[form]
		all.Bytes, all.Obtained = all.Bytes+d.Bytes, all.Obtained+d.Obtained
		send(m.downloaded, prometheus.CounterValue, float64(d.Bytes), form)
		send(m.obtained, prometheus.CounterValue, float64(d.Obtained), form)
	}
	saved := 0.0
	if all.Obtained > 0 {
		saved = 1 - float64(all.Bytes)/float64(all.Obtained)
	}
	send(m.savedPart, prometheus.GaugeValue, saved)
}

func (s spans) histogram(d *prometheus.Desc, bounds []float64, outcome string) prometheus.Metric {
	return prometheus.MustNewConstHistogram(d, s.Count, s.Seconds, s.cumulative(bounds), outcome)
}

// drift says why what runs is not what was last asked for; "" where it is.
func (s Status) drift() string {
	switch {
	case s.State == "" || s.State == Idle || s.State == Committed:
		return ""
	case s.Abandoned && s.By != ByBootGuard:
		return "" // somebody wanted it gone
	case s.Running.Version == s.To.Version && (s.To.Manifest == "" || s.Running.Manifest == s.To.Manifest):
		return "" // a later start made it so
	case !s.State.Terminal():
		return driftInProgress
	case s.Class != "":
		return string(s.Class)
	case s.State == Failed:
		return driftFailed
	default:
		return driftInterrupted
	}
}

func states() []State {
	return []State{
		Idle, Requested, Downloading, Verifying, Staged, Starting, Probation,
		Committing, Committed, RollingBack, RolledBack, Failed,
	}
}
