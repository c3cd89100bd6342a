package etcdkv_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/internal/waittest"
)

// observer keeps what a Watch reported last.
type observer struct {
	mu    sync.Mutex
	view  etcdkv.View
	calls int
	err   error
	errs  []string
}

func (o *observer) change(v etcdkv.View) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v.Values = maps.Clone(v.Values)
	o.view = v
	o.calls++
}

func (o *observer) fail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
	if err != nil {
		o.errs = append(o.errs, err.Error())
	}
}

// has tells whether the view holds exactly want.
func (o *observer) has(want map[string]string) func() bool {
	return func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.calls == 0 || len(o.view.Values) != len(want) {
			return false
		}
		for k, v := range want {
			if string(o.view.Values[k].Data) != v {
				return false
			}
		}
		return true
	}
}

func (o *observer) failing() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err != nil
}

func watch(t *testing.T, c *clientv3.Client) *observer {
	t.Helper()
	return watchWithin(t, c, 200*time.Millisecond, 400*time.Millisecond)
}

func watchWithin(t *testing.T, c *clientv3.Client, quiet, answerWithin time.Duration) *observer {
	t.Helper()
	o := &observer{}
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client:   c,
		Keys:     []string{"/one"},
		Prefixes: []string{"/many/"},
		OnChange: o.change,
		OnError:  o.fail,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.SetStaleness(quiet, answerWithin)
	background(t, w.Run)
	return o
}

func put(t *testing.T, c *clientv3.Client, key, value string) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waittest.Patience)
	defer cancel()
	r, err := c.Put(ctx, key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func remove(t *testing.T, c *clientv3.Client, key string) {
	t.Helper()
	if _, err := c.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// TestWatchShowsFirstViewAndEveryChange: nothing else here would work.
func TestWatchShowsFirstViewAndEveryChange(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	o := watch(t, c)
	waittest.Until(t, "an empty first view", o.has(nil))
	put(t, c, "/one", "1")
	put(t, c, "/oneself", "not watched")
	put(t, c, "/many/a", "a")
	revision := put(t, c, "/many/b", "b")
	waittest.Until(t, "three keys", o.has(map[string]string{"/one": "1", "/many/a": "a", "/many/b": "b"}))
	o.mu.Lock()
	if v := o.view.Values["/many/b"]; v.ModRevision != revision || v.CreateRevision != revision {
		t.Errorf("want revision %d, got %+v", revision, v)
	}
	o.mu.Unlock()
	remove(t, c, "/many/a")
	remove(t, c, "/one")
	waittest.Until(t, "one key", o.has(map[string]string{"/many/b": "b"}))
}

// TestWatchOutlivesOutages: a watch that died silently leaves an agent on old
// configuration for ever.
func TestWatchOutlivesOutages(t *testing.T) {
	compact := func(t *testing.T, c *clientv3.Client) {
		t.Helper()
		if _, err := c.Compact(t.Context(), put(t, c, "/other", "x"), clientv3.WithCompactPhysical()); err != nil {
			t.Fatal(err)
		}
	}
	for name, outage := range map[string]func(t *testing.T, s *etcdtest.Server, p *etcdtest.Proxy, change func()){
		"cut": func(_ *testing.T, _ *etcdtest.Server, p *etcdtest.Proxy, change func()) {
			p.Cut()
			change()
		},
		"cut and compaction": func(t *testing.T, s *etcdtest.Server, p *etcdtest.Proxy, change func()) {
			p.Cut()
			change()
			compact(t, s.Client(t))
		},
		"frozen and compaction": func(t *testing.T, s *etcdtest.Server, p *etcdtest.Proxy, change func()) {
			p.Freeze()
			change()
			compact(t, s.Client(t))
		},
		"restart": func(_ *testing.T, s *etcdtest.Server, _ *etcdtest.Proxy, change func()) {
			s.Restart()
			change()
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := etcdtest.Start(t)
			direct := server.Client(t)
			proxy := server.Proxy(t)
			put(t, direct, "/one", "1")
			put(t, direct, "/many/gone", "x")
			o := watch(t, proxy.Client(t))
			waittest.Until(t, "first view", o.has(map[string]string{"/one": "1", "/many/gone": "x"}))
			outage(t, server, proxy, func() {
				put(t, direct, "/one", "2")
				remove(t, direct, "/many/gone")
				put(t, direct, "/many/new", "n")
			})
			proxy.Heal()
			waittest.Until(t, "what changed meanwhile", o.has(map[string]string{"/one": "2", "/many/new": "n"}))
			put(t, direct, "/one", "3")
			waittest.Until(t, "what changes after", o.has(map[string]string{"/one": "3", "/many/new": "n"}))
			waittest.Until(t, "no error is left", func() bool { return !o.failing() })
		})
	}
}

// TestWatchNoticesAnotherPast: after a restored backup or an exchanged
// cluster, a watch at a revision that does not exist yet hears nothing.
func TestWatchNoticesAnotherPast(t *testing.T) {
	t.Run("restored backup", func(t *testing.T) {
		server := etcdtest.Start(t)
		c := server.Client(t)
		put(t, c, "/one", "old")
		restore := server.Backup()
		for i := range 50 {
			put(t, c, "/one", fmt.Sprint(i))
		}
		o := watch(t, c)
		waittest.Until(t, "first view", o.has(map[string]string{"/one": "49"}))
		restore()
		waittest.Until(t, "the restored value", o.has(map[string]string{"/one": "old"}))
		put(t, c, "/one", "new")
		waittest.Until(t, "what changes after", o.has(map[string]string{"/one": "new"}))
	})
	t.Run("restored backup that has overtaken what was seen", func(t *testing.T) {
		server := etcdtest.Start(t)
		proxy := server.Proxy(t)
		direct := server.Client(t)
		put(t, direct, "/one", "old")
		restore := server.Backup()
		put(t, server.Client(t), "/many/lost", "x")
		// Its own silence is not what it is to notice.
		o := watchWithin(t, proxy.Client(t), time.Hour, time.Hour)
		waittest.Until(t, "first view", o.has(map[string]string{"/one": "old", "/many/lost": "x"}))
		proxy.Cut()
		restore()
		direct = server.Client(t)
		for i := range 20 {
			put(t, direct, "/other", fmt.Sprint(i))
		}
		proxy.Heal()
		waittest.Until(t, "what was lost is gone", o.has(map[string]string{"/one": "old"}))
	})
	t.Run("another cluster", func(t *testing.T) {
		server := etcdtest.Start(t)
		c := server.Client(t)
		for i := range 50 {
			put(t, c, "/one", fmt.Sprint(i))
		}
		o := watch(t, c)
		waittest.Until(t, "first view", o.has(map[string]string{"/one": "49"}))
		server.Wipe()
		waittest.Until(t, "the empty store", o.has(nil))
		put(t, c, "/one", "new")
		waittest.Until(t, "what changes after", o.has(map[string]string{"/one": "new"}))
	})
}

// TestWatchReportsSilence: an etcd that neither answers nor refuses must show
// in the status.
func TestWatchReportsSilence(t *testing.T) {
	server := etcdtest.Start(t)
	proxy := server.Proxy(t)
	o := watch(t, proxy.Client(t))
	waittest.Until(t, "first view", o.has(nil))
	proxy.Freeze()
	waittest.Until(t, "an error", o.failing)
	proxy.Heal()
	waittest.Until(t, "the error is withdrawn", func() bool { return !o.failing() })
	o.mu.Lock()
	defer o.mu.Unlock()
	if !strings.Contains(o.errs[0], proxy.URL()) {
		t.Errorf("want an error that names %s, got %s", proxy.URL(), o.errs[0])
	}
	if o.calls != 1 {
		t.Errorf("want no change reported where nothing changed, got %d views", o.calls)
	}
}

// TestSlowReceiverGetsTheLastView: a burst of writes must neither pile up nor
// end in an old view.
func TestSlowReceiverGetsTheLastView(t *testing.T) {
	c := etcdtest.Start(t).Client(t)
	const writes = 500
	var (
		calls   int
		last    = make(chan string, 1)
		blocked = make(chan struct{})
		release = make(chan struct{})
	)
	w, err := etcdkv.NewWatch(etcdkv.WatchConfig{
		Client: c,
		Keys:   []string{"/one"},
		OnChange: func(v etcdkv.View) {
			if calls++; calls == 1 {
				close(blocked)
				<-release
			}
			if s := string(v.Values["/one"].Data); s == fmt.Sprint(writes-1) {
				last <- s
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, w.Run)
	waittest.Next(t, "first view", blocked)
	for i := range writes {
		put(t, c, "/one", fmt.Sprint(i))
	}
	close(release)
	waittest.Next(t, "the last value", last)
	if calls > writes/2 {
		t.Errorf("%d views of %d writes: not folded together", calls, writes)
	}
}

func TestNewWatchRefusesWhatCannotWork(t *testing.T) {
	c := dial(t, etcdkv.ClientConfig{Endpoints: []string{"127.0.0.1:1"}})
	onChange := func(etcdkv.View) {}
	for name, cfg := range map[string]etcdkv.WatchConfig{
		"no client":       {Keys: []string{"/k"}, OnChange: onChange},
		"no receiver":     {Client: c, Keys: []string{"/k"}},
		"nothing":         {Client: c, OnChange: onChange},
		"an empty prefix": {Client: c, Prefixes: []string{""}, OnChange: onChange},
		"too many keys":   {Client: c, Keys: make([]string, 129), OnChange: onChange},
	} {
		if _, err := etcdkv.NewWatch(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
