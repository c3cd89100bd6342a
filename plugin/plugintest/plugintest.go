package plugintest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/perennial-go/perennial/plugin"
)

// Config says what the suite is to know about a plugin. A check that needs a
// field which is not set is skipped in part or whole, and says so.
type Config struct {
	// Manifest describes the plugin. Without a name in it, the manifest or
	// template beside the executable is read, whose digest is not looked at.
	Manifest plugin.Manifest
	// BadSettings is a JSON object that Start must refuse with an error.
	BadSettings json.RawMessage

	// Short is a task that ends by itself and without an error.
	Short plugin.Task
	// Long is a task that yields results, the first of them soon, and does not
	// end by itself. Several of them run at once.
	Long plugin.Task
	// Resumes says that Long, begun twice from the same cursor, yields results
	// with the same cursors.
	Resumes bool
	// Large is a task of which one result has at least 15 MiB.
	Large plugin.Task
	// Hopeless is a task that no attempt could do: its code is
	// INVALID_ARGUMENT.
	Hopeless plugin.Task
	// Loud is a task that writes 1 MiB or more to standard output or standard
	// error and then ends without an error.
	Loud plugin.Task
}

// limits are how long the suite waits for what a host waits for.
type limits struct {
	start  time.Duration // until the handshake
	answer time.Duration // for a call, a first result, the end of a task
	end    time.Duration // for a process that is to end
	orphan time.Duration // without a host, whole seconds
}

// hostLimits are at least those of a host, and generous where a host is not:
// a test may run on a slow machine.
func hostLimits() limits {
	return limits{start: 20 * time.Second, answer: 10 * time.Second, end: 10 * time.Second, orphan: 2 * time.Second}
}

// suite is one plugin under test.
type suite struct {
	Config
	binary   string
	settings []byte
	limits   limits
}

// Run puts the plugin whose executable is binary through the suite, with the
// manifest beside it.
func Run(t *testing.T, binary string) { Config{}.Run(t, binary) }

// Run puts the plugin whose executable is binary through the suite. It takes
// some 10 s.
func (c Config) Run(t *testing.T, binary string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the suite needs a system with Unix's sockets, signals and pipes")
	}
	s := c.suite(t, binary)
	for _, c := range checks() {
		t.Run(c.name, func(t *testing.T) { c.run(t, s) })
	}
	// These wait most of the time, and do so together; but not by t.Parallel,
	// which a test that sets its environment may not have.
	var waiting sync.WaitGroup
	for _, c := range patientChecks() {
		waiting.Go(func() { t.Run(c.name, func(t *testing.T) { c.run(t, s) }) })
	}
	waiting.Wait()
}

// check is one requirement.
type check struct {
	name string
	run  func(testing.TB, *suite)
}

func checks() []check {
	return []check{
		{"Handshake", checkHandshake},
		{"Cookie", checkCookie},
		{"Socket", checkSocket},
		{"Environment", checkEnvironment},
		{"Info", checkInfo},
		{"ForeignServices", checkForeignServices},
		{"Attach", checkAttach},
		{"Start", checkStart},
		{"Health", checkHealth},
		{"Capability", checkCapability},
		{"Execute", checkExecute},
		{"Resume", checkResume},
		{"LargeMessages", checkLargeMessages},
		{"BackPressure", checkBackPressure},
		{"Cancel", checkCancel},
		{"Deadline", checkDeadline},
		{"Stop", checkStop},
		{"Terminate", checkTerminate},
		{"Output", checkOutput},
		{"Generations", checkGenerations},
	}
}

// patientChecks give the plugin the time that it may be without a host.
func patientChecks() []check {
	return []check{
		{"SecondHost", checkSecondHost},
		{"Reattach", checkReattach},
		{"Orphan", checkOrphan},
	}
}

func (c Config) suite(tb testing.TB, binary string) *suite {
	tb.Helper()
	path, err := filepath.Abs(binary)
	if err != nil {
		tb.Fatal(err)
	}
	s := &suite{Config: c, binary: path, limits: hostLimits()}
	if s.Manifest.Name == "" {
		beside := strings.TrimSuffix(path, ".exe") + plugin.ManifestSuffix
		data, err := os.ReadFile(beside)
		if err != nil {
			tb.Fatalf("the plugin's manifest is wanted beside the executable, or in Config.Manifest: %v", err)
		}
		if s.Manifest, err = plugin.ParseTemplate(data); err != nil {
			tb.Fatalf("%s: %v", beside, err)
		}
	}
	if len(s.Manifest.Settings) > 0 {
		if s.settings, err = json.Marshal(s.Manifest.Settings); err != nil {
			tb.Fatalf("the manifest's settings as JSON: %v", err)
		}
	}
	return s
}
