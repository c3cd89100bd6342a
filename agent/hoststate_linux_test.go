package agent

import (
	"fmt"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

func TestSuccessorHasTheStateBeforeItsStart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	m := f.member("a1").startOf(build{Version: "1.0.0", Remembers: true})
	m.registered()
	for _, c := range []struct{ version, want string }{
		{"1.1.0", "1.0.0 to 1.1.0"},
		{"1.2.0", "1.0.0 1.1.0 to 1.2.0"},
	} {
		m.upgrades(build{Version: c.version, Remembers: true})
		waittest.Nil(t, c.version+" remembers", func() error {
			got, err := m.get("/memory")
			if err == nil && got != c.want {
				err = fmt.Errorf("it remembers %q, want %q", got, c.want)
			}
			return err
		})
	}
}
