package config

import (
	"fmt"
	"strings"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// CheckScope returns why scope is none: global, group/<group> and agent/<id>
// are.
func CheckScope(scope string) error {
	kind, id, hasID := strings.Cut(scope, "/")
	switch {
	case scope == "global":
		return nil
	case hasID && (kind == "group" || kind == "agent"):
		if err := etcdkv.ValidID(id); err != nil {
			return fmt.Errorf("config scope %q: %w", scope, err)
		}
		return nil
	default:
		return fmt.Errorf("config scope %q: want global, group/<group> or agent/<agent-id>", scope)
	}
}
