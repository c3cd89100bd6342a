package agent

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// hostile is what anybody who may write to etcd can leave there.
func (c *crowd) hostile() {
	for key, value := range map[string]string{
		"registry/../../x":                     `{"schema":1}`,
		"registry/" + strings.Repeat("x", 1e5): `{"schema":1}`,
		"registry/\x1b[31m\xff":                `{"schema":1}`,
		"registry/":                            `{"schema":1}`,
		"registry/ä":                           "\x00\x01",
		"plugins/no-plugin":                    `{"schema":1}`,
		"plugins/good/../x":                    `{"schema":1}`,
		"status/ghost":                         `{"schema":1}`,
		"registry/binary":                      "\x00\x01\xff\x1b[2J",
		"registry/empty":                       "",
		"registry/null":                        "null",
		"registry/newer":                       `{"schema":2,"id":"newer"}`,
		"registry/types":                       `{"schema":1,"id":"types","pid":"many"}`,
		"registry/liar":                        `{"schema":1,"id":"good","version":"9.9.9"}`,
		"registry/nameless":                    `{"schema":1,"version":"9.9.9"}`,
		"registry/deep":                        `{"schema":1,"id":"deep","labels":` + strings.Repeat("[", 1e5) + `}`,
		"registry/good":                        `{"schema":1,"id":"good","version":"1.0.0"}`,
		"status/good":                          `{"schema":1,"order_error":"` + strings.Repeat("x", 1_400_000) + `"}`,
		"plugins/good/p1":                      `{"schema":1,"name":"p1"}`,
		"plugins/good/p2":                      `[]`,
	} {
		c.put(key, value)
	}
}

func TestHostileKeysAndValuesAreToldOnceAndHideNoAgent(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.hostile()
	l := &waittest.Log{}
	x := c.index(IndexConfig{Logger: slog.New(slog.NewTextHandler(l, nil))})
	c.ready(x)
	s := x.Snapshot()
	want := "binary deep empty good liar nameless newer null types"
	page, err := c.dir.List(t.Context(), ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range page.Entries {
		e := &page.Entries[i]
		if other := s.Get(e.ID); other == nil || encoded(t, other) != encoded(t, e) {
			t.Errorf("listed %+v, indexed %+v", e, other)
		}
		if e.Error == "" || len(e.Error) > 1000 || strings.ContainsAny(e.Error, "\x00\x1b\n") {
			t.Errorf("%s: error %q", e.ID, e.Error)
		}
		if e.ID != "good" && e.Version != "" {
			t.Errorf("%s has the version %s", e.ID, e.Version)
		}
	}
	if got := ids(s.List(Selector{})); got != want || len(page.Entries) != 9 {
		t.Errorf("indexed %s, %d listed, want %s", got, len(page.Entries), want)
	}
	good := s.Get("good")
	if good.Version != "1.0.0" || len(good.Plugins) != 1 || good.Status != nil || !strings.Contains(good.Error, "at most 1048576") || !strings.Contains(good.Error, "plugins/good/p2") {
		t.Errorf("%+v", good)
	}
	strays := s.Strays()
	if strays.Count != 8 || !slices.Contains(strays.Examples, "ghost has keys and no registration") || page.Strays.Count != 5 {
		t.Errorf("strays: %+v, listed %+v", strays, page.Strays)
	}
	for _, example := range slices.Concat(strays.Examples, page.Strays.Examples) {
		if len(example) > 500 || strings.ContainsFunc(example, func(r rune) bool { return r < ' ' }) {
			t.Errorf("an example is not fit for a terminal: %q", example)
		}
	}
	// What stays wrong is not told again.
	for i := range 3 {
		c.put("status/newer", fmt.Sprintf(`{"schema":%d}`, i+3))
		c.sees(x, "the change", func(s *Snapshot) bool { return strings.Contains(s.Get("newer").Error, fmt.Sprintf("schema %d", i+3)) })
	}
	if n := l.Count("peer=newer"); n != 1 {
		t.Errorf("an agent that cannot be read was told %d times", n)
	}
	if n := l.Count("belong to none"); n != 1 {
		t.Errorf("strays were told %d times", n)
	}
	c.remove("status/ghost")
	c.put("registry/newer", `{"schema":1,"id":"newer"}`, "status/newer", `{"schema":1}`)
	waittest.Until(t, "what is mended is no error any more", func() bool {
		s := x.Snapshot()
		return s.Get("newer").Error == "" && s.Strays().Count == 7
	})
}

func TestHundredThousandStrayKeysNeitherHideAnAgentNorCostItsChanges(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.fill(2)
	const n = 100_000
	for i := 0; i < n; {
		var pairs []string
		for ; len(pairs) < 240; i += 2 {
			pairs = append(pairs, fmt.Sprintf("status/agent-%09d", i), "{", fmt.Sprintf("plugins/%s/p%d", crowdID(1), i), `{"schema":1}`)
		}
		c.put(pairs...)
	}
	x := c.index(IndexConfig{})
	c.ready(x)
	s := x.Snapshot()
	if s.Len() != 2 || s.Strays().Count < n/2 || len(s.Strays().Examples) != maxExamples {
		t.Errorf("%d agents, strays %+v", s.Len(), s.Strays())
	}
	if e := s.Get(crowdID(1)); len(e.Plugins) != maxPlugins || !strings.Contains(e.Error, "plugins, the first 256 are shown") {
		t.Errorf("%d plugins, %q", len(e.Plugins), e.Error)
	}
	for i := range 20 {
		version := fmt.Sprintf("1.1.%d", i)
		c.put("registry/"+crowdID(1), registered(t, 1, version))
		c.sees(x, "the change", runs(crowdID(1), version))
	}
	page, err := c.dir.List(t.Context(), ListOptions{})
	if err != nil || len(page.Entries) != 2 {
		t.Errorf("%d listed, %v", len(page.Entries), err)
	}
}
