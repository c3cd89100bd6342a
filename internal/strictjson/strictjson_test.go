package strictjson_test

import (
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/strictjson"
)

func TestAmbiguousJSONIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, says string }{
		"plain":             {`{"a":[{"b":1}],"c":{"a":2}}`, ""},
		"twice":             {`{"a":1,"a":2}`, "twice"},
		"twice, other case": {`{"a":1,"A":2}`, "twice"},
		"twice, deep":       {`{"x":[{"a":1,"a":2}]}`, "twice"},
		"deep":              {`{"a":[[[1]]]}`, "deeper than 3"},
		"array":             {`[]`, "not a JSON object"},
		"trailing":          {`{} {}`, "after"},
		"cut":               {`{"a":`, "not valid JSON"},
		"empty":             {``, "not valid JSON"},
	} {
		err := strictjson.Check([]byte(c.text), 3)
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
