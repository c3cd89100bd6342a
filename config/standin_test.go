package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
)

// TestDocumentThatWasPrintedWithoutItsSecretsIsNotPublished: every agent would
// get the stand-ins.
func TestDocumentThatWasPrintedWithoutItsSecretsIsNotPublished(t *testing.T) {
	for name, tc := range map[string]struct{ document, at string }{
		"of a secret":         {"database:\n  password: \"(secret)\"\n", "line 2, column 13"},
		"of an unknown field": {"databse: (hidden)\n", "line 1, column 10"},
		"with digits":         {`{"list": [1, {"a": "(secret 0a1b2c3d)"}]}`, "line 1, column 20"},
		"behind an anchor":    {"a: &x (hidden)\nb: *x\n", "line 1, column 4"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Publish(t.Context(), nil, "/agents/", []byte(tc.document), config.Change{Scope: "global"})
			if !errors.Is(err, config.ErrInvalid) || !strings.Contains(err.Error(), tc.at) {
				t.Errorf("want it refused at %s, found %v", tc.at, err)
			}
		})
	}
}
