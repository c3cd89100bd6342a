package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestKeyThatWentBackStaysDamagedWhenAnotherIsWritten: after a restored backup
// the status is written long before the keys are mended, and a plugin's record
// would stay as old as the backup.
func TestKeyThatWentBackStaysDamagedWhenAnotherIsWritten(t *testing.T) {
	t.Parallel()
	k := newKeys("")
	registration, status, plugin := k.registry("a1"), k.status("a1"), k.plugin("a1", "p")
	r := &registry{keys: k, id: "a1", revision: 5, held: map[string]held{
		registration: {"r", 5}, status: {"s", 9}, plugin: {"p", 8},
	}}
	view := func(revision, status_, plugin_ int64) etcdkv.View {
		return etcdkv.View{Revision: revision, Values: map[string]etcdkv.Value{
			registration: {ModRevision: 5}, status: {ModRevision: status_}, plugin: {ModRevision: plugin_},
		}}
	}
	for _, c := range []struct {
		what    string
		before  func()
		seen    etcdkv.View
		damaged []string
	}{
		{"all is well", nil, view(9, 9, 8), nil},
		{"etcd is of revision 7 again", nil, view(7, 7, 6), []string{plugin, status}},
		{"the status is written", func() { r.held[status] = held{"s2", 8} }, view(8, 8, 6), []string{plugin}},
		{"and again", func() { r.held[status] = held{"s3", 9} }, view(9, 9, 6), []string{plugin}},
		{"the plugin's record is on its way", func() { r.held[plugin] = held{"p", 10} }, view(9, 9, 6), nil},
		{"it is there", nil, view(10, 9, 10), nil},
	} {
		if c.before != nil {
			c.before()
		}
		if got := r.damage(c.seen); !slices.Equal(got, c.damaged) {
			t.Errorf("%s: damaged are %q, want %q", c.what, got, c.damaged)
		}
	}
}

// TestWriteThatEtcdDoesNotAnswerIsNoFaultOfTheWatch: the status would blame the
// watch, and an operator look in the wrong place.
func TestWriteThatEtcdDoesNotAnswerIsNoFaultOfTheWatch(t *testing.T) {
	t.Parallel()
	k := newKeys("")
	r := &registry{keys: k, id: "a1"}
	r.echo.write(7)
	r.mu.Lock() // as a write does
	ended := make(chan []string, 1)
	go func() {
		ended <- r.damage(etcdkv.View{Revision: 7, Values: map[string]etcdkv.Value{k.status("a1"): {ModRevision: 7}}})
	}()
	waittest.Until(t, "the echo is noticed", func() bool { return r.echo.behind(time.Now().Add(time.Hour)) == 0 })
	r.mu.Unlock()
	waittest.Next(t, "damage", ended)
}
