package plugin

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"go.opentelemetry.io/otel/trace"
)

// Config says where plugins are and how they are looked after. The zero value
// of every field but StateDir (needed as soon as Dir is set) is usable.
type Config struct {
	// Dir holds the plugins. "" means none: Run then only waits. It must
	// exist, belong to root or to the user who runs the host, and be writable
	// by its owner alone.
	Dir string
	// StateDir is a directory of the host's own, made with mode 0700 if it is
	// absent: verified copies of the executables, sockets, scratch space. Two
	// hosts may share it while one takes over from the other.
	StateDir string
	// HostVersion is the host's complete SemVer version, which manifests put
	// constraints on. With "", a plugin that has a constraint is refused.
	HostVersion string
	// Required names plugins that Ready insists on, whatever their manifests
	// say, present or not.
	Required []string
	// TracerProvider receives a span for each Execute; nil begins none, and
	// passes the trace of its ctx on to the plugin.
	TracerProvider trace.TracerProvider
	// Logger receives the host's side and what plugins write; nil discards.
	Logger *slog.Logger
	// OnChange is called with List after every change of a state, a process or
	// a reason, from one goroutine, changes in quick succession coalesced. It
	// must not block for long: Run waits for it.
	OnChange func([]Status)

	// Verify checks a manifest's signature, the content of a file
	// NAME.plugin.yaml.minisig, before anything in the manifest is looked at,
	// and returns the id of the key. An error keeps the files from being used;
	// one that wraps ErrUntrusted says that the key counts no more, upon which
	// a plugin that runs by it is stopped, too. nil means that signatures are
	// not looked at. It is called from several goroutines, and for every signed
	// plugin every ScanEvery.
	Verify func(manifest, signature []byte) (keyID string, err error)
	// RequireSigned refuses a plugin without a signature; it needs Verify. A
	// signature that does not count is refused without it, too.
	RequireSigned bool

	// ScanEvery is the time between two looks at Dir besides those upon a
	// change that the system tells of: it does not tell of every change on a
	// network file system, nor when too many come at once. Signatures are
	// judged again at every look. Default 30 s; where the system tells of
	// nothing, 2 s at most.
	ScanEvery time.Duration
	// Settle is how long files that cannot be used must stay as they are until
	// that is final: they may still be being copied. Default 1 s.
	Settle time.Duration
	// StartTimeout bounds a start until the plugin is healthy; default 10 s.
	StartTimeout time.Duration
	// StopTimeout bounds the orderly end of a process, after which its group
	// is killed; default 5 s.
	StopTimeout time.Duration
	// DrainTimeout is what calls that are not Resumable get to finish on a
	// generation that is replaced, before it is stopped; default 30 s.
	DrainTimeout time.Duration
	// DetachTimeout is what calls in flight get to finish when Run ends after
	// Detach; default 30 s.
	DetachTimeout time.Duration
	// OrphanAfter is how long a plugin lives without a host; default 60 s.
	OrphanAfter time.Duration
	// LogBytes is the size at which a plugin's log file is rotated, and
	// LogFiles how many are kept, the current one included; defaults 10 MiB
	// and 3.
	LogBytes int64
	LogFiles int
	// HealthEvery is the time between two health checks; default 10 s.
	HealthEvery time.Duration
	// HealthTimeout bounds one. Two in a row without an answer get the plugin
	// killed and restarted; default 5 s.
	HealthTimeout time.Duration
	// BackoffMin and BackoffMax bound the wait before a restart, which doubles
	// and is jittered; defaults 1 s and 2 min.
	BackoffMin, BackoffMax time.Duration
	// WellAfter is how long a plugin must run for the next wait to be a first
	// one again; default 5 min.
	WellAfter time.Duration
	// CrashLimit deaths or failed starts within CrashWindow put a plugin into
	// quarantine; defaults 5 and 10 min.
	CrashLimit  int
	CrashWindow time.Duration
}

func (c *Config) setDefaults() {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, d := range c.durations() {
		if *d.value == 0 {
			*d.value = d.preset
		}
	}
	if c.CrashLimit == 0 {
		c.CrashLimit = 5
	}
	if c.LogBytes == 0 {
		c.LogBytes = 10 << 20
	}
	if c.LogFiles == 0 {
		c.LogFiles = 3
	}
}

// duration is a field of Config and its default.
type duration struct {
	name   string
	value  *time.Duration
	preset time.Duration
}

func (c *Config) durations() []duration {
	return []duration{
		{"ScanEvery", &c.ScanEvery, 30 * time.Second},
		{"Settle", &c.Settle, time.Second},
		{"StartTimeout", &c.StartTimeout, 10 * time.Second},
		{"StopTimeout", &c.StopTimeout, 5 * time.Second},
		{"HealthEvery", &c.HealthEvery, 10 * time.Second},
		{"HealthTimeout", &c.HealthTimeout, 5 * time.Second},
		{"DrainTimeout", &c.DrainTimeout, 30 * time.Second},
		{"DetachTimeout", &c.DetachTimeout, 30 * time.Second},
		{"OrphanAfter", &c.OrphanAfter, time.Minute},
		{"BackoffMin", &c.BackoffMin, time.Second},
		{"BackoffMax", &c.BackoffMax, 2 * time.Minute},
		{"WellAfter", &c.WellAfter, 5 * time.Minute},
		{"CrashWindow", &c.CrashWindow, 10 * time.Minute},
	}
}

func (c *Config) validate() error {
	for _, d := range c.durations() {
		if *d.value < 0 {
			return fmt.Errorf("Config.%s: want a positive duration, found %s", d.name, *d.value)
		}
	}
	if c.BackoffMax < c.BackoffMin {
		return fmt.Errorf("Config.BackoffMax: want at least BackoffMin, %s, found %s", c.BackoffMin, c.BackoffMax)
	}
	if c.CrashLimit < 0 {
		return fmt.Errorf("Config.CrashLimit: want a positive number, found %d", c.CrashLimit)
	}
	if c.LogBytes < 0 || c.LogFiles < 0 {
		return fmt.Errorf("Config.LogBytes and LogFiles: want positive numbers, found %d and %d", c.LogBytes, c.LogFiles)
	}
	if c.RequireSigned && c.Verify == nil {
		return errors.New("Config.RequireSigned needs Config.Verify, or every plugin would be refused")
	}
	if c.HostVersion != "" {
		if _, err := semver.StrictNewVersion(c.HostVersion); err != nil {
			return fmt.Errorf("Config.HostVersion: want a complete SemVer version, found %q: %w", c.HostVersion, err)
		}
	}
	for _, name := range c.Required {
		if !ValidName(name) {
			return fmt.Errorf("Config.Required: %q cannot be a plugin's name", name)
		}
	}
	if c.Dir == "" {
		if len(c.Required) > 0 {
			return fmt.Errorf("Config.Required wants %s, but Config.Dir is not set", strings.Join(c.Required, ", "))
		}
		return nil
	}
	if c.StateDir == "" {
		return errors.New("Config.StateDir is not set; name a directory that belongs to this host alone")
	}
	// Processes run with another working directory.
	for _, dir := range []*string{&c.Dir, &c.StateDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return err
		}
		*dir = abs
	}
	d, err := openDirectory(c.Dir)
	if err != nil {
		return err
	}
	return d.close()
}
