package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/sdk"
)

func TestBadSettingsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ settings, says string }{
		"none":                  {``, "want 1 to 1000"},
		"unknown field":         {`{"command":{}}`, "unknown field"},
		"no commands":           {`{"commands":{}}`, "want 1 to 1000"},
		"too many places":       {`{"concurrency":65,"commands":{}}`, "concurrency"},
		"name":                  {`{"commands":{"a b":{"path":"/bin/sh"}}}`, "its name"},
		"no path":               {`{"commands":{"c":{}}}`, "want an absolute path"},
		"relative path":         {`{"commands":{"c":{"path":"sh"}}}`, `found "sh"`},
		"no such path":          {`{"commands":{"c":{"path":"/no/such"}}}`, "no such file"},
		"a directory":           {`{"commands":{"c":{"path":"/usr"}}}`, "want an executable file"},
		"no executable":         {`{"commands":{"c":{"path":"/etc/passwd"}}}`, "want an executable file"},
		"relative dir":          {`{"commands":{"c":{"path":"/bin/sh","dir":"x"}}}`, "dir"},
		"no such dir":           {`{"commands":{"c":{"path":"/bin/sh","dir":"/no/such"}}}`, "dir"},
		"timeout":               {`{"commands":{"c":{"path":"/bin/sh","timeout":"25h"}}}`, "up to 24h"},
		"grace":                 {`{"commands":{"c":{"path":"/bin/sh","grace":"-1s"}}}`, "grace"},
		"output":                {`{"commands":{"c":{"path":"/bin/sh","max_output":-1}}}`, "max_output"},
		"failure":               {`{"commands":{"c":{"path":"/bin/sh","failure":"ignore"}}}`, "want retry or permanent"},
		"user":                  {`{"commands":{"c":{"path":"/bin/sh","user":"no-such-user"}}}`, "user"},
		"no pattern":            {`{"commands":{"c":{"path":"/bin/sh","args":["${p}"],"params":{"p":{}}}}}`, "pattern"},
		"bad pattern":           {`{"commands":{"c":{"path":"/bin/sh","args":["${p}"],"params":{"p":{"pattern":"("}}}}}`, "pattern"},
		"pattern that gets out": {`{"commands":{"c":{"path":"/bin/sh","args":["${p}"],"params":{"p":{"pattern":"a)|(?:b"}}}}}`, "pattern"},
		"default":               {`{"commands":{"c":{"path":"/bin/sh","args":["${p}"],"params":{"p":{"pattern":"a","default":"b"}}}}}`, "default"},
		"unknown parameter":     {`{"commands":{"c":{"path":"/bin/sh","args":["${p}"]}}}`, "found no such"},
		"unused parameter":      {`{"commands":{"c":{"path":"/bin/sh","params":{"p":{"pattern":"a"}}}}}`, "found it nowhere"},
		"open place":            {`{"commands":{"c":{"path":"/bin/sh","args":["${p"]}}}`, "want ${name}"},
		"NUL":                   {`{"commands":{"c":{"path":"/bin/sh","args":["\u0000"]}}}`, "NUL"},
		"own variable":          {`{"commands":{"c":{"path":"/bin/sh","env":{"PERENNIAL_TASK_KEY":"x"}}}}`, "PERENNIAL_"},
		"variable's name":       {`{"commands":{"c":{"path":"/bin/sh","env":{"A=B":"x"}}}}`, "env"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := (&executor{}).Start(t.Context(), []byte(c.settings)); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("want %q, found %v", c.says, err)
			}
		})
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"commands":{"c":{"path":"/bin/sh","args":["a${p}$${"],"params":{"p":{"pattern":"a*","default":"a"}},"timeout":"1s"}}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		places, commands, err := readSettings(data)
		if err == nil && (places < 1 || len(commands) == 0) {
			t.Errorf("%d places, %d commands", places, len(commands))
		}
	})
}

// FuzzPayload runs nothing: it looks what would be run.
func FuzzPayload(f *testing.F) {
	const settings = `{"commands":{"c":{"path":"/bin/sh","args":["-n","${word}","--x=${any}"],"env":{"E":"${any}"},
		"params":{"word":{"pattern":"[a-z-]*"},"any":{"pattern":"(?s).*","default":""}}}}}`
	_, commands, err := readSettings([]byte(settings))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"command":"c","params":{"word":"ab","any":"\n"}}`))
	f.Add([]byte(`{"command":"c","params":{"word":"-x"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, in, err := readRequest(sdk.Task{Payload: data}, commands)
		if err != nil {
			return
		}
		var r request
		if json.Unmarshal(data, &r) != nil || r.Command != "c" {
			t.Errorf("%q was taken", data)
		}
		if len(in.argv) != 4 || in.argv[0] != "/bin/sh" || in.argv[1] != "-n" || strings.Trim(in.argv[2], "abcdefghijklmnopqrstuvwxyz-") != "" ||
			strings.HasPrefix(in.argv[2], "-") || !strings.HasPrefix(in.argv[3], "--x=") || len(in.env) != 1 || strings.ContainsRune(in.argv[3], 0) {
			t.Errorf("%q would run %q", data, in.argv)
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"", "a", "${a}", "$${a}", "$$${a}${b}", "${", "${}", "}$"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parsed, err := parseTemplate(text)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, s := range parsed {
			if s.param != "" {
				again.WriteString("${" + s.param + "}")
				continue
			}
			again.WriteString(strings.ReplaceAll(s.literal, "${", "$${"))
		}
		if again.String() != text {
			t.Errorf("%q was read as %q", text, again.String())
		}
	})
}

// TestTemplateCanBeInstalledAsItIs on a host that has its commands.
func TestTemplateCanBeInstalledAsItIs(t *testing.T) {
	data, err := os.ReadFile("exec.plugin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m, err := plugin.ParseTemplate(data)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := json.Marshal(m.Settings)
	if err != nil {
		t.Fatal(err)
	}
	e := &executor{}
	if err := e.Start(t.Context(), settings); errors.Is(err, fs.ErrNotExist) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	for params, ok := range map[string]bool{
		``:                                      true,
		`,"params":{"path":"/var/log/a.d/b-c"}`: true,
		`,"params":{"path":"/var/log/../../etc"}`: false,
		`,"params":{"path":"/var/log/.ssh"}`:      false,
		`,"params":{"path":"/etc"}`:               false,
	} {
		_, _, err := readRequest(sdk.Task{Payload: []byte(`{"command":"disk-usage"` + params + `}`)}, e.commands)
		if (err == nil) != ok {
			t.Errorf("%s: %v", params, err)
		}
	}
}
