package strictjson_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/internal/strictjson"
)

var errNewer = errors.New("written by a newer version")

// TestValueThatIsNotOfTheFormatIsNamedNotGuessed: an agent would act on half of
// what a later version wants, or an operator would not find the key at fault.
func TestValueThatIsNotOfTheFormatIsNamedNotGuessed(t *testing.T) {
	for name, c := range map[string]struct {
		text, says string
		depth      int
	}{
		"good":               {`{"schema":3,"a":"x","later":[1]}`, "", 2},
		"newer":              {`{"schema":4,"a":{"it":"is an object now"}}`, "key has schema 4, this version reads 3: written by a newer version", 2},
		"without a schema":   {`{"a":"x"}`, "key has schema 0, this version reads 3", 2},
		"large":              {`{"schema":3,"a":"` + strings.Repeat("x", 100) + `"}`, "key has 119 bytes, at most 100 are read", 2},
		"another type":       {`{"schema":3,"a":1}`, "key: json: cannot unmarshal number", 2},
		"twice":              {`{"schema":4,"Schema":3}`, "key: JSON member \"Schema\" occurs twice", 2},
		"twice, not checked": {`{"schema":4,"Schema":3,"a":"x"}`, "", 0},
		"cut":                {`{"schema":3,`, "key: not valid JSON", 2},
		"cut, not checked":   {`{"schema":3,`, "key is not JSON: unexpected end", 0},
		"none":               {``, "key: not valid JSON", 2},
	} {
		var v struct{ A string }
		err := strictjson.Format{Schema: 3, MaxBytes: 100, Depth: c.depth, Newer: errNewer}.Decode("key", []byte(c.text), &v)
		switch {
		case c.says == "" && (err != nil || v.A != "x"), c.says != "" && (err == nil || !strings.HasPrefix(err.Error(), c.says) || v.A != ""):
			t.Errorf("%s: %+v, %v, want %q", name, v, err, c.says)
		case errors.Is(err, errNewer) != strings.Contains(c.says, "has schema"):
			t.Errorf("%s: %v", name, err)
		}
	}
}
