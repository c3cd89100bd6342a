package health

import (
	"math"
	"testing"
	"time"
)

func TestRuleStates(t *testing.T) {
	type step struct {
		value float64
		want  State
	}
	nothing := math.NaN() // no sample in that period
	inf := math.Inf(1)
	for name, tc := range map[string]struct {
		rule  Rule
		steps []step // one each 10 s
	}{
		"no sample is no state": {
			Rule{Above: 5},
			[]step{{nothing, Unknown}, {4, Inactive}, {nothing, Inactive}},
		},
		"the threshold itself is not above it": {
			Rule{Above: 5},
			[]step{{5, Inactive}, {math.Nextafter(5, 6), Firing}},
		},
		"without for it fires and ends at once": {
			Rule{Above: 5},
			[]step{{6, Firing}, {5, Resolved}, {6, Firing}},
		},
		"for counts from the first value above": {
			Rule{Above: 5, For: 20 * time.Second},
			[]step{{6, Pending}, {9, Pending}, {6, Firing}},
		},
		"a dip starts for again": {
			Rule{Above: 5, For: 20 * time.Second},
			[]step{{6, Pending}, {6, Pending}, {5, Inactive}, {6, Pending}, {6, Pending}, {6, Firing}},
		},
		"pending does not use the clear threshold": {
			Rule{Above: 5, Clear: 3, For: 20 * time.Second},
			[]step{{6, Pending}, {4, Inactive}, {6, Pending}, {6, Pending}, {6, Firing}},
		},
		"between clear and above it fires on": {
			Rule{Above: 5, Clear: 3},
			[]step{{6, Firing}, {4, Firing}, {3, Resolved}, {4, Resolved}},
		},
		"keep firing outlasts the calm": {
			Rule{Above: 5, KeepFiring: 20 * time.Second},
			[]step{{6, Firing}, {1, Firing}, {1, Firing}, {1, Resolved}},
		},
		"a relapse starts keep firing again": {
			Rule{Above: 5, KeepFiring: 20 * time.Second},
			[]step{{6, Firing}, {1, Firing}, {1, Firing}, {6, Firing}, {1, Firing}, {1, Firing}, {1, Resolved}},
		},
		"a relapse into the band starts keep firing again": {
			Rule{Above: 5, Clear: 3, KeepFiring: 20 * time.Second},
			[]step{{6, Firing}, {1, Firing}, {4, Firing}, {1, Firing}, {1, Firing}, {1, Resolved}},
		},
		"keep firing of an ended alert does not count for the next": {
			Rule{Above: 5, KeepFiring: 20 * time.Second},
			[]step{{6, Firing}, {1, Firing}, {1, Firing}, {1, Resolved}, {6, Firing}, {1, Firing}, {1, Firing}, {1, Resolved}},
		},
		"after it ended for counts anew": {
			Rule{Above: 5, For: 10 * time.Second},
			[]step{{6, Pending}, {6, Firing}, {1, Resolved}, {6, Pending}, {6, Firing}},
		},
		"the last value stays when samples stop": {
			Rule{Above: 5, For: 20 * time.Second},
			[]step{{6, Pending}, {nothing, Pending}, {nothing, Firing}},
		},
		"silence is infinite when asked for": {
			Rule{Above: 5, Silence: 20 * time.Second},
			[]step{{nothing, Unknown}, {1, Inactive}, {nothing, Inactive}, {nothing, Firing}, {1, Resolved}},
		},
		"a missing answer is above every threshold": {
			Rule{Above: math.MaxFloat64},
			[]step{{inf, Firing}, {1, Resolved}},
		},
		"a sum without events is zero": {
			Rule{Fold: Sum},
			[]step{{nothing, Inactive}, {2, Firing}, {nothing, Resolved}},
		},
		"a negative threshold has a zero clear": {
			Rule{Above: -1},
			[]step{{0, Firing}, {-1, Resolved}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tc.rule.Name, tc.rule.Indicator = "r", "i"
			rule, err := tc.rule.normalised(0)
			if err != nil {
				t.Fatal(err)
			}
			s := &series{}
			j := newJudge(rule, s)
			now := time.Unix(1000, 0)
			for n, step := range tc.steps {
				if !math.IsNaN(step.value) {
					s.value, s.at = step.value, now
					j.add(step.value)
				}
				if j.decide(now); j.state != step.want {
					t.Fatalf("step %d (value %v): %s, want %s", n, step.value, j.state, step.want)
				}
				now = now.Add(10 * time.Second)
			}
		})
	}
}

func TestWorstSampleOfAPeriodIsJudged(t *testing.T) {
	for _, samples := range [][]float64{{1, 9, 2}, {9, 1}, {1, 9}} {
		now := time.Unix(1, 0)
		j := newJudge(Rule{Above: 5, Fold: Worst}, &series{value: samples[len(samples)-1], at: now})
		for _, v := range samples {
			j.add(v)
		}
		j.decide(now)
		if j.state != Firing || j.value != 9 {
			t.Errorf("%v: %s at %v, want firing at 9", samples, j.state, j.value)
		}
	}
}

func TestAlertSinceIsTheFirstValueAbove(t *testing.T) {
	j, now := newJudge(Rule{Above: 5, For: 20 * time.Second, Every: 10 * time.Second}, &series{}), time.Unix(1000, 0)
	for range 4 {
		j.add(6)
		j.decide(now)
		now = now.Add(10 * time.Second)
	}
	if got := j.alert().Since; !got.Equal(time.Unix(1000, 0)) {
		t.Errorf("since %v, want the first of four", got)
	}
}

func TestDefaultRulesAreTheReferenceTableAndCoverWhatIsBuiltIn(t *testing.T) {
	type row struct {
		indicator string
		above     float64
		every     time.Duration
	}
	got := map[string]row{}
	for _, r := range DefaultRules() {
		if _, err := r.normalised(0); err != nil {
			t.Error(err)
		}
		if r.Summary == "" {
			t.Errorf("rule %s does not say what its alert means", r.Name)
		}
		got[r.Indicator] = row{r.Indicator, r.Above, r.Every}
	}
	for _, want := range []row{
		{MemoryPercent, 85, 10 * time.Second},
		{HeartbeatLatency, 2, 5 * time.Second},
		{PluginExceptions, 0, 30 * time.Second},
	} {
		if got[want.indicator] != want {
			t.Errorf("got %v, want %v", got[want.indicator], want)
		}
	}
	for _, i := range new(Monitor).builtIn("/") {
		if _, ok := got[i.Name]; !ok {
			t.Errorf("no rule judges %s", i.Name)
		}
	}
	DefaultRules()[0].Above = 1
	if DefaultRules()[0].Above != 85 {
		t.Error("a caller can change the defaults of others")
	}
}

// TestTimeThatNobodyWatchedIsNotHeldAgainstAnyone: a process that was stopped,
// or whose host was suspended, saw one value before and one after.
func TestTimeThatNobodyWatchedIsNotHeldAgainstAnyone(t *testing.T) {
	rule := Rule{Name: "r", Indicator: "i", Above: 5, For: time.Minute, KeepFiring: time.Minute}
	rule, err := rule.normalised(0)
	if err != nil {
		t.Fatal(err)
	}
	j, now := newJudge(rule, &series{}), time.Unix(1000, 0)
	step := func(after time.Duration, value float64, want State) {
		t.Helper()
		now = now.Add(after)
		j.add(value)
		j.decide(now)
		if j.state != want {
			t.Fatalf("%s with %v after %v, want %s", j.state, value, after, want)
		}
	}
	step(0, 6, Pending)
	step(time.Hour, 6, Pending) // counts for 20 s
	step(20*time.Second, 6, Pending)
	step(20*time.Second, 6, Firing)
	step(10*time.Second, 1, Firing)
	step(time.Hour, 1, Firing)
	step(20*time.Second, 1, Firing)
	step(20*time.Second, 1, Resolved)
}

// TestTimersThatAreALittleEarlyDelayNoAlertByAPeriod, neither its beginning nor
// its end.
func TestTimersThatAreALittleEarlyDelayNoAlertByAPeriod(t *testing.T) {
	j, now := newJudge(Rule{Above: 5, Clear: 5, For: time.Minute, KeepFiring: time.Minute, ResolvedFor: time.Minute, Every: 30 * time.Second}, &series{}), time.Unix(1000, 0)
	for i, want := range []State{Pending, Pending, Firing, Firing, Firing, Resolved} {
		value := 6.0
		if i > 2 {
			value = 1
		}
		j.add(value)
		if j.decide(now); j.state != want {
			t.Fatalf("%s at judgement %d, want %s", j.state, i, want)
		}
		now = now.Add(30*time.Second - time.Millisecond)
	}
}
