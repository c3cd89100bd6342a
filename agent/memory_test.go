package agent

import (
	"context"
	"io"
	"net/http"
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
