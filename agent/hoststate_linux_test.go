package agent

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/perennial-go/perennial/internal/waittest"
)

// memory is what a release was handed, to which it adds its version.
type memory struct{ version, handed string }

func (m *memory) SaveState(context.Context) ([]byte, error) {
	return []byte(m.handed + m.version + " "), nil
}

func (m *memory) RestoreState(_ context.Context, state []byte) error {
	m.handed = string(state)
	return nil
}

// handler tells what was there when it was made, that is in Start.
func (m *memory) handler() http.Handler {
	handed := m.handed
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, handed+"to "+m.version) })
}

func TestSuccessorHasTheStateBeforeItsStart(t *testing.T) {
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
