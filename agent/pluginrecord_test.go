package agent

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/plugin"
)

// TestFiguresOfAPluginDoNotMakeAWriteWithEveryMeasurement: at one each ten
// seconds they would be most of a fleet's traffic, and an operator sees within
// a minute what is going on all the same.
func TestFiguresOfAPluginDoNotMakeAWriteWithEveryMeasurement(t *testing.T) {
	const mib = 1 << 20
	base := plugin.Status{Name: "p", Version: "1.0.0", State: plugin.Running, Usage: plugin.Usage{RSSBytes: 100 * mib, CPUSeconds: 5}}
	start := time.Now()
	for name, c := range map[string]struct {
		edit  func(*plugin.Status)
		after time.Duration
		due   bool // by itself
		told  bool // with what is written anyhow
	}{
		"nothing":                  {func(*plugin.Status) {}, time.Second, false, false},
		"a little memory":          {func(s *plugin.Status) { s.Usage.RSSBytes += 10 * mib }, time.Second, false, false},
		"a little, a minute on":    {func(s *plugin.Status) { s.Usage.RSSBytes += 10 * mib }, time.Minute, false, true},
		"much memory":              {func(s *plugin.Status) { s.Usage.RSSBytes += 26 * mib }, time.Second, true, true},
		"memory given back":        {func(s *plugin.Status) { s.Usage.RSSBytes /= 2 }, time.Second, true, true},
		"some processor time":      {func(s *plugin.Status) { s.Usage.CPUSeconds += 3 }, time.Second, false, false},
		"a processor in use":       {func(s *plugin.Status) { s.Usage.CPUSeconds += 21 }, 25 * time.Second, true, true},
		"an exception right after": {func(s *plugin.Status) { s.Exceptions++ }, time.Second, false, false},
		"an exception":             {func(s *plugin.Status) { s.Exceptions++ }, 11 * time.Second, true, true},
		"a task that begins":       {func(s *plugin.Status) { s.OpenTasks++ }, time.Second, false, false},
		"an error with its words": {func(s *plugin.Status) {
			s.Exceptions, s.LastError, s.LastErrorAt = 1, strings.Repeat("x", 10*recordText), start
		}, 11 * time.Second, true, true},
		"another state":             {func(s *plugin.Status) { s.State = plugin.Degraded }, time.Millisecond, true, true},
		"another version":           {func(s *plugin.Status) { s.Version = "1.0.1" }, time.Millisecond, true, true},
		"a reason that goes on":     {func(s *plugin.Status) { s.Reason = strings.Repeat("ä", recordText) }, time.Millisecond, true, true},
		"another plugin's name":     {func(s *plugin.Status) { s.Name = "q" }, time.Millisecond, true, true},
		"a restart of its process":  {func(s *plugin.Status) { s.PID, s.Restarts = 4711, 1 }, time.Millisecond, true, true},
		"what it can do":            {func(s *plugin.Status) { s.Capabilities = []string{"x"} }, time.Millisecond, true, true},
		"an endless list of those":  {func(s *plugin.Status) { s.Capabilities = make([]string, 1000) }, time.Millisecond, true, true},
		"open descriptors only":     {func(s *plugin.Status) { s.Usage.OpenFDs += 7 }, time.Second, false, false},
		"descriptors, a minute on":  {func(s *plugin.Status) { s.Usage.OpenFDs += 7 }, time.Minute, false, true},
		"a figure that goes to and": {func(s *plugin.Status) { s.Usage.RSSBytes -= mib }, time.Second, false, false},
	} {
		var b pluginBook
		if !b.due([]plugin.Status{base}, start) {
			t.Errorf("%s: a plugin that is new is not told", name)
		}
		before := b.records([]plugin.Status{base}, start)
		now := base
		c.edit(&now)
		at := start.Add(c.after)
		if due := b.due([]plugin.Status{now}, at); due != c.due {
			t.Errorf("%s: due is %v", name, due)
		}
		after := b.records([]plugin.Status{now}, at)
		was, is := encoded(t, before[0]), encoded(t, after[0])
		if told := was != is; told != c.told {
			t.Errorf("%s: told is %v:\n%s\n%s", name, told, was, is)
		}
		if len(is) > 4<<10 {
			t.Errorf("%s: the record has %d bytes", name, len(is))
		}
		if b.due([]plugin.Status{now}, at) && c.told {
			t.Errorf("%s: what was told is due again", name)
		}
	}
}

// TestPluginRecordOfSchema1IsStillRead: a fleet of the first release would be
// listed without its plugins.
func TestPluginRecordOfSchema1IsStillRead(t *testing.T) {
	d := &Directory{keys: newKeys("")}
	entries := entriesOf(d, map[string]etcdkv.Value{
		d.keys.registry("a1"):          {Data: golden(t, "registration-1.json")},
		d.keys.plugin("a1", "logtail"): {Data: golden(t, "plugin-1.json")},
	})
	if len(entries) != 1 || entries[0].Error != "" || len(entries[0].Plugins) != 1 {
		t.Fatalf("%+v", entries)
	}
	want := PluginRecord{Schema: 1, Status: plugin.Status{
		Name: "logtail", Version: "1.2.0", Digest: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		State: plugin.Degraded, Reason: "it reports: the source is unreadable", PID: 4711,
		Generation: 3, Protocol: 1, OpenTasks: 2, Restarts: 4, Exceptions: 5,
		LastError: "the process was killed by SIGKILL", LastErrorAt: time.Date(2030, 1, 2, 3, 0, 0, 0, time.UTC),
		Since: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Capabilities: []string{"collect"}, Required: true,
		Signed: "A1B2C3D4E5F60718", Limits: "cgroup",
		Usage: plugin.Usage{RSSBytes: 20971520, CPUSeconds: 12.5, OpenFDs: 17},
	}}
	if got := entries[0].Plugins[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestPluginThatIsGoneIsToldAsGone: its record would stay until the next beat.
func TestPluginThatIsGoneIsToldAsGone(t *testing.T) {
	var b pluginBook
	now := time.Now()
	b.records([]plugin.Status{{Name: "p"}, {Name: "q"}}, now)
	if !b.due([]plugin.Status{{Name: "q"}}, now) {
		t.Error("it is not due")
	}
	if left := b.records([]plugin.Status{{Name: "q"}}, now); len(left) != 1 || b.due([]plugin.Status{{Name: "q"}}, now) {
		t.Errorf("%+v", left)
	}
}
