package config_test

import (
	"strings"
	"testing"

	"github.com/perennial-go/perennial/config"
)

// TestAFieldThatIsNotForDocumentsCannotBeSet: the decoder would take the tag
// for a name.
func TestAFieldThatIsNotForDocumentsCannotBeSet(t *testing.T) {
	type Inlined struct {
		Own string `yaml:"-"`
	}
	type below struct {
		Inlined `yaml:",inline"`
		Name    string
	}
	type top struct {
		Handle int `yaml:"-"`
		Below  below
		List   []below
	}
	store, err := config.New(config.Config[top]{})
	if err != nil {
		t.Fatal(err)
	}
	for document, want := range map[string]string{
		"below: {name: x}\n\"-\": 5":     "line 2, column 1: unknown field -",
		`below: {"-": x}`:                "line 1, column 9: unknown field below.-",
		"list:\n- name: x\n- {\"-\": x}": "line 3, column 4: unknown field list[1].-",
	} {
		if got, err := store.Check([]byte(document)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v, want %q", document, got, err, want)
		}
	}
}
