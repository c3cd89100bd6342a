package health

import (
	"testing"
	"time"
)

// TestSumIsLookedForUntilTheNextLook: the window of a sum holds two periods, and
// two looks of a Prometheus that scrapes every 30 s.
func TestSumIsLookedForUntilTheNextLook(t *testing.T) {
	for every, want := range map[time.Duration]string{
		time.Second:      `max_over_time(perennial_health_indicator{indicator="i"}[1m]) > 5`,
		30 * time.Second: `max_over_time(perennial_health_indicator{indicator="i"}[1m]) > 5`,
		31 * time.Second: `max_over_time(perennial_health_indicator{indicator="i"}[1m2s]) > 5`,
	} {
		r, err := Rule{Name: "r", Indicator: "i", Above: 5, Every: every, Fold: Sum}.normalised(0)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.prometheusExpr("PerennialR"); got != want {
			t.Errorf("every %v: %s, want %s", every, got, want)
		}
	}
}

func TestTimesAreRoundedUpToWhatPrometheusKnows(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "", 1: "1ms", time.Millisecond: "1ms", time.Millisecond + 1: "2ms", 1500 * time.Microsecond: "2ms",
		time.Minute: "1m", 90 * time.Second: "1m30s", 25 * time.Hour: "25h", time.Hour - 1: "1h", 61*time.Minute + 1500*time.Millisecond: "1h1m1s500ms",
	} {
		if got := prometheusDuration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

// TestSummaryIsNoTemplate: Prometheus would run it, and refuse the whole file if
// it cannot.
func TestSummaryIsNoTemplate(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "{ } }}": "{ } }}", "{{ end }}": `{{ "{{" }} end }}`, "{{{": `{{ "{{" }}{`, "{{{{": `{{ "{{" }}{{ "{{" }}`,
	} {
		r := Rule{Name: "r", Indicator: "i", Summary: text}
		if got := r.prometheusAlert().Annotations["summary"]; got != want {
			t.Errorf("%s becomes %s, want %s", text, got, want)
		}
	}
}
