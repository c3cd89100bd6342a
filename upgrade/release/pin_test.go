package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestFloatingTagNeverPassesAsVersion(t *testing.T) {
	for tag, advice := range map[string]string{
		"":                                     "is empty",
		"latest":                               "tag or branch",
		"stable":                               "tag or branch",
		"dev":                                  "tag or branch",
		"main":                                 "tag or branch",
		"release/1.2":                          "tag or branch",
		"HEAD":                                 "tag or branch",
		"v1":                                   "partial version",
		"1":                                    "partial version",
		"1.2":                                  "partial version",
		"v1.2":                                 "partial version",
		"1.x":                                  "partial version",
		"1.2.x":                                "partial version",
		"1.2.*":                                "partial version",
		"^1.2.0":                               "is a range",
		"~1.2.0":                               "is a range",
		">=1.2.0":                              "is a range",
		"1.2.0 - 2.0.0":                        "is a range",
		"1.2.0 || 2.0.0":                       "is a range",
		"v1.2.0":                               "write 1.2.0",
		"1.2.0 ":                               "is a range",
		"01.2.0":                               "begins with 0: write 1.2.0",
		"v1.02.00":                             "begins with 0: write 1.2.0",
		"1.2.0-rc.01+x":                        "begins with 0: write 1.2.0-rc.1+x",
		"1.2.0-01":                             "begins with 0: write 1.2.0-1",
		"01.2":                                 "partial version",
		"1.2.3.4":                              "write",
		"1.2.0/../../x":                        "write",
		"1.2.0\x00":                            "write",
		"１.２.０":                                "write",
		"1.2.0-\u212a":                         "write",
		"1.2.0\nlatest":                        "write",
		"1." + strings.Repeat("9", 200) + ".0": "at most 128",
		"99999999999999999999.0.0":             "write",
	} {
		v, err := ParseVersion(tag)
		if !errors.Is(err, ErrFloatingTag) {
			t.Errorf("ParseVersion(%q) = %v, %v; want ErrFloatingTag", tag, v, err)
			continue
		}
		if !strings.Contains(err.Error(), advice) {
			t.Errorf("ParseVersion(%q): %q does not say %q", tag, err, advice)
		}
	}
	for _, exact := range []string{"0.0.0", "1.2.0", "2.0.0-rc.1", "1.2.3-0.3.7", "1.2.0+build.5", "1.2.0-a.b+c"} {
		if v, err := ParseVersion(exact); err != nil || v.String() != exact {
			t.Errorf("ParseVersion(%q) = %v, %v", exact, v, err)
		}
	}
}

func TestPinWithoutOneExactMeaningIsRefused(t *testing.T) {
	good := Pin{Version: "1.2.0", Digest: "sha256:" + strings.Repeat("ab", 32)}
	for name, text := range map[string]string{
		"no digest":           "1.2.0",
		"floating tag":        "latest@" + good.Digest,
		"other algorithm":     "1.2.0@md5:" + strings.Repeat("ab", 16),
		"no algorithm":        "1.2.0@" + strings.Repeat("ab", 32),
		"short digest":        "1.2.0@sha256:abab",
		"upper-case digest":   "1.2.0@sha256:" + strings.Repeat("AB", 32),
		"traversal in digest": "1.2.0@sha256:" + strings.Repeat("../", 21) + "x",
		"two digests":         good.String() + "@" + good.Digest,
		"space":               " " + good.String(),
		"empty":               "",
	} {
		if p, err := ParsePin(text); err == nil {
			t.Errorf("%s: ParsePin(%q) = %v", name, text, p)
		}
	}
	if p, err := ParsePin(good.String()); err != nil || p != good {
		t.Errorf("ParsePin(%q) = %v, %v", good, p, err)
	}
}

func TestPinKeepsItsJSONForm(t *testing.T) {
	p := Pin{Version: "1.2.0", Digest: "sha256:" + strings.Repeat("0", 64)}
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`{"version":"1.2.0","digest":%q}`, p.Digest); string(data) != want {
		t.Errorf("pin is written as %s, want %s", data, want)
	}
	if !(Pin{}).IsZero() || p.IsZero() || (Pin{}).String() != "" {
		t.Error("the zero pin is not told apart")
	}
}
