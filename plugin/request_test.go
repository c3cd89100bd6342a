package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRequestOfSchema1IsStillRead: another release of the program may have
// written it, and asks this one.
func TestRequestOfSchema1IsStillRead(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "request-1.json"))
	if err != nil {
		t.Fatal(err)
	}
	a, err := parseAsked(data)
	if err != nil {
		t.Fatal(err)
	}
	want := Request{Action: ActionDisable, Plugin: "logtail", Reason: "it floods", By: "root@host"}
	if a.Request != want || !a.Until.Equal(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%+v", a)
	}
}

func TestRequestThatNoHostCouldPerformIsRefused(t *testing.T) {
	until := `"until":"2030-01-02T03:04:05Z"`
	for name, c := range map[string]struct{ text, says string }{
		"not JSON":        {`{`, "not valid JSON"},
		"newer schema":    {`{"schema":2,"action":"list",` + until + `}`, "schema"},
		"no schema":       {`{"action":"list",` + until + `}`, "schema"},
		"unknown action":  {`{"schema":1,"action":"reboot",` + until + `}`, "reboot"},
		"no plugin":       {`{"schema":1,"action":"restart",` + until + `}`, "plugin"},
		"a path":          {`{"schema":1,"action":"restart","plugin":"../x",` + until + `}`, "../x"},
		"a list of one":   {`{"schema":1,"action":"list","plugin":"x",` + until + `}`, "plugin"},
		"for ever":        {`{"schema":1,"action":"list"}`, "until"},
		"twice":           {`{"schema":1,"action":"restart","action":"list",` + until + `}`, "twice"},
		"a long reason":   {`{"schema":1,"action":"disable","plugin":"x","reason":"` + strings.Repeat("x", requestText+1) + `",` + until + `}`, "reason"},
		"text at the end": {`{"schema":1,"action":"list",` + until + `}{}`, "after"},
	} {
		if a, err := parseAsked([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"schema":1,"action":"restart","plugin":"x","until":"2030-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"schema":1,"action":"list","until":"2030-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAsked(data)
		if err == nil && (a.Validate() != nil || a.Schema != askedSchema || a.Until.IsZero()) {
			t.Errorf("%+v was let through", a)
		}
	})
}
