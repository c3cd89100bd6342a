package sdk_test

import (
	"strings"
	"testing"

	"github.com/perennial-go/perennial/plugin/sdk"
)

func TestSlipInSettingsIsTold(t *testing.T) {
	type settings struct {
		Path  string `json:"path"`
		Inner any    `json:"inner"`
	}
	for name, data := range map[string]string{
		"unknown member":         `{"paht":"/var/log"}`,
		"repeated member":        `{"path":"/a","path":"/b"}`,
		"repeated in other case": `{"path":"/a","Path":"/b"}`,
		"wrong type":             `{"path":7}`,
		"two objects":            `{"path":"/a"}{}`,
		"no object":              `["/a"]`,
		"too deep":               `{"inner":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`,
		"cut off":                `{"path":"/a"`,
	} {
		t.Run(name, func(t *testing.T) {
			if err := sdk.Decode([]byte(data), &settings{}); err == nil {
				t.Errorf("%s was taken", data)
			}
		})
	}
	s := settings{Path: "/default"}
	if err := sdk.Decode(nil, &s); err != nil || s.Path != "/default" {
		t.Errorf("no settings: %+v, %v; want the defaults", s, err)
	}
	if err := sdk.Decode([]byte(`{"path":"/a"}`), &s); err != nil || s.Path != "/a" {
		t.Errorf("%+v, %v", s, err)
	}
}
