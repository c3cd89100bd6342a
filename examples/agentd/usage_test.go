package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands calls f with every command that does something.
func commands(cmd *cobra.Command, f func(*cobra.Command)) {
	if len(cmd.Commands()) == 0 {
		f(cmd)
	}
	for _, sub := range cmd.Commands() {
		commands(sub, f)
	}
}

func TestEveryCommandHasAnExampleAndNamesItsVariables(t *testing.T) {
	commands(newRoot(), func(cmd *cobra.Command) {
		if cmd.Example == "" || cmd.Short == "" || cmd.Long == "" {
			t.Errorf("%s lacks an example or a description", cmd.CommandPath())
		}
		if n := strings.Count(cmd.Long, exitHelp); n != 1 {
			t.Errorf("%s --help tells of its exit codes %d times, want once", cmd.CommandPath(), n)
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if fromEnvironment(f) && !strings.Contains(f.Usage, "$"+variable(f.Name)) {
				t.Errorf("%s --help does not name the variable of --%s: %q", cmd.CommandPath(), f.Name, f.Usage)
			}
		})
	})
}

// TestAnAgentsOwnVariablesMeanNothingElseToOtherCommands: they are set on its
// host, where operators call commands too.
func TestAnAgentsOwnVariablesMeanNothingElseToOtherCommands(t *testing.T) {
	own := map[string]bool{}
	for _, flag := range []string{"id", "listen", "admin", "settings", "plugins", "label", "group", "probation", "retention", "ttl", "heartbeat"} {
		own[variable(flag)] = true
	}
	commands(newRoot(), func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if fromEnvironment(f) && own[variable(f.Name)] && cmd.Name() != "run" {
				t.Errorf("%s takes --%s from %s, which is the agent's", cmd.CommandPath(), f.Name, variable(f.Name))
			}
		})
	})
}

// What has exit codes of its own says so, and not only what all have in common.
func TestCommandsWithExitCodesOfTheirOwnTellThem(t *testing.T) {
	for path, says := range map[string][]string{
		"release resolve":   {"0 means", "1 that there is no such release"},
		"release list":      {"0 means", "1 that it was not"},
		"release verify":    {"0 means", "1 that something is damaged"},
		"release yank":      {"0 means", "whether or not it was before"},
		"release conflicts": {"0 means", "1 that something is", "3 that\nit cannot be told"},
		"release diff":      {"also means"},
		"keys list":         {"0 means", "has expired"},
		"rollout start":     {"0 the rollout has completed", "4 it was halted", "5 it was reverted"},
		"rollout status":    {"0 the rollout has completed", "6 it\nwas aborted"},
		"rollout revert":    {"0 the revert has begun"},
		"rollout history":   {"0 means"},
	} {
		help := agentd(t, append(strings.Fields(path), "--help")...).ok(t).stdout
		for _, s := range says {
			if !strings.Contains(help, s) {
				t.Errorf("%s --help does not say %q", path, s)
			}
		}
	}
}

// words splits a call as a shell does, as far as examples go: quotes of either
// kind around a word or a part of it, and a file at the end for the output.
func words(call string) []string {
	var all []string
	for rest := strings.TrimSpace(call); rest != "" && rest[0] != '>'; rest = strings.TrimSpace(rest) {
		var word strings.Builder
		for quote := rune(0); rest != ""; rest = rest[1:] {
			c := rune(rest[0])
			if quote == 0 && c == ' ' {
				break
			}
			switch {
			case c == quote:
				quote = 0
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			default:
				word.WriteRune(c)
			}
		}
		all = append(all, word.String())
	}
	return all
}

func TestExamplesParse(t *testing.T) {
	commands(newRoot(), func(cmd *cobra.Command) {
		text := strings.ReplaceAll(cmd.Example, "\\\n", " ")
		for line := range strings.Lines(text) {
			_, call, ok := strings.Cut(line, "agentd ")
			if !ok {
				t.Errorf("%s: example %q does not call agentd", cmd.CommandPath(), line)
				continue
			}
			found, rest, err := newRoot().Find(words(call))
			if err != nil || found.CommandPath() != cmd.CommandPath() {
				t.Errorf("example %q is of %s: %v", line, found.CommandPath(), err)
				continue
			}
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("example %q: %v", line, err)
			}
			if err := completeFlags(found, func(string) (string, bool) { return "", false }); err != nil {
				t.Errorf("example %q: %v", line, err)
			}
			if err := found.Args(found, found.Flags().Args()); err != nil {
				t.Errorf("example %q: %v", line, err)
			}
		}
	})
}

func TestWrongUsageEndsWith2AndOneSentence(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"unknown command":                {[]string{"rum"}, []string{`"rum"`, "--help"}},
		"unknown subcommand":             {[]string{"config", "set"}, []string{`"set"`, "agentd config --help"}},
		"unknown flag":                   {[]string{"run", "--sate-dir", "x"}, []string{"--sate-dir", "agentd run --help"}},
		"missing flag":                   {[]string{"status"}, []string{"--state-dir", "AGENTD_STATE_DIR", "/var/lib/agentd"}},
		"missing argument":               {[]string{"upgrade", "--etcd", "http://x:1", "--agent", "a", "--repo", "r", "--trust", "t"}, []string{"VERSION"}},
		"no way to the agent":            {[]string{"rollback"}, []string{"--etcd", "--agent", "--state-dir"}},
		"etcd without an agent":          {[]string{"hold", "show", "--etcd", "http://x:1"}, []string{"--agent"}},
		"two ways to the agent":          {[]string{"hold", "clear", "--agent", "a1", "--state-dir", "x"}, []string{"--agent", "--state-dir", "AGENTD_STATE_DIR"}},
		"hold without a reason":          {[]string{"hold", "set", "--state-dir", "x"}, []string{"--reason"}},
		"rollback to a moving tag":       {[]string{"rollback", "--state-dir", "x", "latest"}, []string{"latest"}},
		"upgrade to a part of a version": {[]string{"upgrade", "--state-dir", "x", "--repo", "r", "--trust", "t", "1.1"}, []string{"VERSION", `"1.1"`, "such as"}},
		"release of a moving tag":        {[]string{"release", "build", "--key", "k", "--repo", "r", "--version", "latest", "a"}, []string{"--version", "latest"}},
		"moving tag withdrawn":           {[]string{"release", "yank", "--key", "k", "--repo", "r", "--reason", "x", "latest"}, []string{"VERSION", "latest"}},
		"expects no version":             {[]string{"rollback", "--state-dir", "x", "--expect", "foo"}, []string{"--expect", "1.2.0@sha256:DIGEST", "any", `"foo"`}},
		"expects a partial digest":       {[]string{"rollback", "--state-dir", "x", "--expect", "1.0.0@sha256:ab"}, []string{"--expect", `"1.0.0@sha256:ab"`}},
		"rollback to two releases":       {[]string{"rollback", "--state-dir", "x", "1.0.0", "1.1.0"}, []string{`"1.1.0"`}},
		"quarantined partial pin":        {[]string{"quarantine", "clear", "--state-dir", "x", "1.0.0@sha256:ab"}, []string{"1.0.0@sha256:ab"}},
		"unknown hold command":           {[]string{"hold", "on"}, []string{`"on"`, "agentd hold --help"}},
		"one argument too many":          {[]string{"status", "--state-dir", "x", "y"}, []string{`"y"`}},
		"unknown output":                 {[]string{"status", "--state-dir", "x", "-o", "xml"}, []string{"text or json", "xml"}},
		"unknown log level":              {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--log-level", "loud"}, []string{"--log-level", "loud"}},
		"unknown log format":             {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--log-format", "xml"}, []string{"--log-format", "xml"}},
		"label without value":            {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--label", "test"}, []string{"key=value", `"test"`}},
		"label twice":                    {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--label", "a=1,a=2"}, []string{`"1"`, `"2"`}},
		"repo without trust":             {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--repo", "r"}, []string{"--trust"}},
		"etcd without a port":            {[]string{"fleet", "--etcd", "localhost"}, []string{"http://127.0.0.1:2379", "localhost"}},
		"certificate without a key":      {[]string{"fleet", "--etcd", "https://x:1", "--etcd-cert", "c"}, []string{"--etcd-key"}},
		"platforms do not match":         {[]string{"release", "build", "--key", "k", "--repo", "r", "--version", "1.0.0", "--platform", "linux/amd64", "a", "b"}, []string{"2", "1"}},
		"plugins nowhere":                {[]string{"plugin", "list"}, []string{"--etcd", "--state-dir"}},
		"plugins in two places":          {[]string{"plugin", "list", "--state-dir", "x", "--agent", "a1"}, []string{"--state-dir", "--agent"}},
		"log of what is no plugin":       {[]string{"plugin", "logs", "--state-dir", "x", "../y"}, []string{"NAME", "../y"}},
		"fewer lines than none":          {[]string{"plugin", "logs", "--state-dir", "x", "-n", "-2", "y"}, []string{"--lines", "-2"}},
		"plugin without its manifest":    {[]string{"plugin", "install", "--dir", "x", "y"}, []string{"--manifest"}},
		"signed by nobody in particular": {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--require-signed-plugins"}, []string{"--require-signed-plugins", "--trust"}},
		"more tasks than there are":      {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--tasks", "-1"}, []string{"--tasks", "-1"}},
		"task for nothing":               {[]string{"task", "submit", "--etcd", "http://x:1"}, []string{"--plugin", "--capability"}},
		"task with two payloads":         {[]string{"task", "submit", "--etcd", "http://x:1", "--plugin", "p", "--payload-file", "x", "{}"}, []string{"PAYLOAD", "--payload-file"}},
		"task that is too late":          {[]string{"task", "submit", "--etcd", "http://x:1", "--plugin", "p", "--deadline", "yesterday"}, []string{"--deadline", "yesterday", "10m"}},
		"task by an unknown policy":      {[]string{"task", "submit", "--etcd", "http://x:1", "--plugin", "p", "--policy", "some"}, []string{"policy", "some", "rendezvous"}},
		"tasks in no state":              {[]string{"task", "list", "--etcd", "http://x:1", "--state", "lost"}, []string{"--state", "dead", "lost"}},
		"task for an impossible plugin":  {[]string{"task", "submit", "--etcd", "http://x:1", "--plugin", "Greeter", "{}"}, []string{"plugin", `"Greeter"`, "a-z"}},
		"payload of a hyphen":            {[]string{"task", "submit", "--etcd", "http://x:1", "--plugin", "p", "-"}, []string{"--payload-file -"}},
		"less than no time":              {[]string{"task", "list", "--etcd", "http://x:1", "--timeout", "-1s"}, []string{"--timeout", "-1s"}},
		"cancelled nothing":              {[]string{"task", "cancel", "--etcd", "http://x:1"}, []string{"ID"}},
		"rollout of nothing":             {[]string{"rollout", "start", "--etcd", "http://x:1"}, []string{"VERSION", "--config"}},
		"rollout of both":                {[]string{"rollout", "start", "--etcd", "http://x:1", "--config", "x", "1.1.0"}, []string{"both"}},
		"rollout from nowhere":           {[]string{"rollout", "start", "--etcd", "http://x:1", "1.1.0"}, []string{"--repo"}},
		"rollout of a moving tag":        {[]string{"rollout", "start", "--etcd", "http://x:1", "--repo", "r", "--trust", "t", "latest"}, []string{"VERSION", "latest"}},
		"rollout in two ways":            {[]string{"rollout", "start", "--etcd", "http://x:1", "--canary", "--rolling", "1.1.0"}, []string{"--canary", "--rolling"}},
		"rollout in a wrong window":      {[]string{"rollout", "start", "--etcd", "http://x:1", "--window", "nightly", "1.1.0"}, []string{"--window", "Mon-Fri"}},
		"rollout to a wrong part":        {[]string{"rollout", "start", "--etcd", "http://x:1", "--rolling", "--batch", "0", "1.1.0"}, []string{"--batch", "5%"}},
		"rollout of whose document":      {[]string{"rollout", "start", "--etcd", "http://x:1", "--config", "x"}, []string{"--scope"}},
		"rollout of no document":         {[]string{"rollout", "start", "--etcd", "http://x:1", "--scope", "global", "1.1.0"}, []string{"--scope", "--config"}},
		"rollout without time":           {[]string{"rollout", "start", "--etcd", "http://x:1", "--deadline", "0", "1.1.0"}, []string{"--deadline", "more than 0"}},
		"rollout of a strange fleet":     {[]string{"rollout", "status", "--etcd", "http://x:1", "--fleet", "a/b"}, []string{"--fleet", "a/b"}},
		"rollout watched not at all":     {[]string{"rollout", "status", "--etcd", "http://x:1", "--wait", "1m"}, []string{"--watch"}},
		"rollout back to a moving tag":   {[]string{"rollout", "revert", "--etcd", "http://x:1", "--to", "latest"}, []string{"--to", "latest"}},
		"unknown rollout command":        {[]string{"rollout", "stop"}, []string{`"stop"`, "agentd rollout --help"}},
		"webhook without a controller":   {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--webhook", "https://x"}, []string{"--rollout-controller"}},
		"duration that is no number":     {[]string{"run", "--id", "a", "--etcd", "http://x:1", "--state-dir", "x", "--probation", "long"}, []string{"--probation", "long"}},
	} {
		t.Run(name, func(t *testing.T) {
			agentd(t, c.args...).fails(t, 2, c.says...)
		})
	}
}

func TestEnvironmentStandsInForFlagsAndFlagsComeFirst(t *testing.T) {
	good, bad := t.TempDir(), filepath.Join(t.TempDir(), "absent")
	// Both directories are refused, and the sentence tells which was read.
	command(t, []string{"AGENTD_STATE_DIR=" + bad}, "status").fails(t, 1, bad)
	command(t, []string{"AGENTD_STATE_DIR=" + bad}, "status", "--state-dir", good).fails(t, 1, good)
	command(t, []string{"AGENTD_STATE_DIR="}, "status").fails(t, 2, "AGENTD_STATE_DIR")
	command(t, []string{"AGENTD_OUTPUT=xml"}, "status", "--state-dir", good).fails(t, 2, "AGENTD_OUTPUT", "xml")
}

func TestVersionIsTheOneOfTheBuild(t *testing.T) {
	if r := agentd(t, "--version").ok(t); r.stdout != "agentd 1.0.0\n" {
		t.Errorf("--version prints %q", r.stdout)
	}
	if r := agentd(t).ok(t); !strings.Contains(r.stdout, "Exit codes") || !strings.Contains(r.stdout, "128+n") {
		t.Errorf("agentd alone prints no help:\n%s", r.stdout)
	}
}

func TestStatusOfWhatIsNoStateDirectory(t *testing.T) {
	agentd(t, "status", "--state-dir", t.TempDir()).fails(t, 1, "no current release")
	agentd(t, "status", "--state-dir", filepath.Join(t.TempDir(), "absent")).fails(t, 1, "--state-dir")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	agentd(t, "status", "--state-dir", file).fails(t, 1, file)
}
