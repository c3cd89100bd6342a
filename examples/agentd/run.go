package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// runFlags are the flags of agentd run.
type runFlags struct {
	etcd      etcdFlags
	releases  reader
	logs      logFlags
	tasks     taskFlags
	rollouts  rolloutRunFlags
	traces    traceFlags
	around    looksAround
	id        string
	stateDir  string
	listen    string
	admin     adminFlags
	plugins   string
	signed    bool
	settings  []string
	labels    []string
	groups    []string
	probation time.Duration
	longest   time.Duration
	retention time.Duration
	keepLimit time.Duration
	keepBytes int64
	busyFile  string
	busyLimit time.Duration
	ttl       time.Duration
	heartbeat time.Duration
	policy    release.Policy
	remote    string
	cosignKey string
	check     time.Duration
	supervise string
	respond   []string
}

func newRunCommand() *cobra.Command {
	var r runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent",
		Long: `run takes records on --listen (POST /v1/records, GET /v1/info), answers
/livez, /readyz, /metrics and more on --admin, and keeps everything in
--state-dir: records in spool/*.ndjson, releases in slots/. It prints both
addresses, so that port 0, which takes a free one, can be used; a successor
keeps them.

On --admin, routes want a role: probe (/livez, /readyz, /startupz), read
(reasons, /metrics, /v1/status, /v1/alerts) or operate (/v1/diagnose,
/debug/pprof/). By default everybody on loopback may read, and nobody operate;
on a Unix socket root and the user of the agent may operate. Any other address
wants --admin-cert and --admin-key, and --admin-client-ca or --admin-jwks.

Without --repo and --trust it does all that and refuses upgrades. What must
not be interrupted puts them off by --busy-file, unless they are forced. SIGTERM and
SIGINT end it after the requests in progress; so does a successor, after an
upgrade, with exit code 0.`,
		Example: `  agentd run --id a1 --etcd http://127.0.0.1:2379 --state-dir /var/lib/agentd \
    --repo https://releases.example.com/agentd --trust /etc/agentd/release.pub \
    --plugins /usr/lib/agentd/plugins --label env=test --group web`,
		Args: takes(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.run(cmd)
		},
	}
	for _, part := range []interface{ add(*cobra.Command) }{&r.etcd, &r.releases, &r.logs, &r.tasks, &r.rollouts, &r.traces, &r.around, &r.admin} {
		part.add(cmd)
	}
	f := cmd.Flags()
	f.StringVar(&r.id, "id", "", "`id` of the agent, unique in the fleet")
	f.StringVar(&r.stateDir, "state-dir", "", "state `directory`, of this agent alone")
	f.StringVar(&r.listen, "listen", "127.0.0.1:7070", "`address` for records")
	f.StringSliceVar(&r.settings, "settings", nil, "`file` with settings of this host, below those in etcd, YAML or JSON; may be repeated, the later one wins. Variables that begin with "+settingsPrefix+" come over it, such as "+settingsPrefix+"HTTP_READ_TIMEOUT")
	f.StringVar(&r.plugins, "plugins", "", "plugins `directory`; none without it")
	f.BoolVar(&r.signed, "require-signed-plugins", false, "refuse plugins that are not signed by a key that signs releases (agentd plugin install --key); needs --trust or --trust-roots. A signature that is there counts in any case")
	f.StringSliceVar(&r.labels, "label", nil, "label `key=value`; may be repeated")
	f.StringSliceVar(&r.groups, "group", nil, "configuration `group`; may be repeated, the later one wins")
	f.DurationVar(&r.probation, "probation", 30*time.Second, "how long a new release serves before it is trusted")
	f.DurationVar(&r.longest, "probation-limit", time.Hour, "the longest probation that an upgrade can ask for; a rollback in that time is warm, and two processes run")
	f.DurationVar(&r.retention, "retention", 72*time.Hour, "how long a replaced release is kept, or a staged one")
	f.DurationVar(&r.keepLimit, "retention-limit", 30*24*time.Hour, "the longest time that a request can have one kept")
	f.Int64Var(&r.keepBytes, "retention-bytes", 1<<30, "how many `bytes` replaced releases may take; the one that ran last stays all the same")
	f.StringVar(&r.busyFile, "busy-file", "", "while this `file` exists, upgrades and rollbacks wait; its first line says why")
	f.DurationVar(&r.busyLimit, "busy-limit", time.Hour, "how long the busy file may put one off")
	f.DurationVar(&r.ttl, "ttl", 30*time.Second, "how long the registration outlives the agent")
	f.DurationVar(&r.heartbeat, "heartbeat", 5*time.Second, "pause between two heartbeats")
	f.BoolVar(&r.policy.AllowMajor, "allow-major", false, "allow upgrades to another major version")
	f.BoolVar(&r.policy.AllowPrerelease, "allow-prerelease", false, "allow upgrades to a pre-release")
	f.BoolVar(&r.policy.AllowOlder, "allow-older", false, "let a rollback to VERSION@sha256:DIGEST that is not kept fetch it from --repo, if the index offers it and it is older; so whoever may ask for rollbacks chooses among all older releases, those in etcd too unless --remote-rollback never")
	f.StringVar(&r.remote, "remote-rollback", string(upgrade.RemoteRollbackOffered), "which rollbacks are made by orders in etcd: `offered` (not to a release known to be withdrawn), any (there too, if the order says --allow-withdrawn) or never; what is asked for on the host itself is not bound by it, nor is the way back from a release that fails")
	f.StringVar(&r.cosignKey, "cosign-key", "", "take only releases whose image in --repo, an OCI registry or layout, is signed with cosign by this public key `file` as well; the registry is asked for the signature each time, also with --pull Never")
	f.DurationVar(&r.check, "check-every", time.Hour, "pause between two looks at the index, by which a withdrawn release is noticed; negative looks never")
	f.StringVar(&r.supervise, "supervise", "auto", "keep a first process whose pid never changes: `auto` (as pid 1), always or never")
	f.StringArrayVar(&r.respond, "respond", nil, "what to do when an alert fires, as `alert=action`: restart-plugin:<plugin>, refuse-upgrades or drain (both until it is resolved), or stop (with exit code 1); once an hour, or as ,limit=<n>,within=<duration> after it says, restarts included; may be repeated, such as memory=restart-plugin:logtail")
	require(cmd, "id", "a1")
	require(cmd, "state-dir", "/var/lib/agentd")
	return cmd
}

// run is what the program does; everything before it is flags.
func (r *runFlags) run(cmd *cobra.Command) error {
	crash()
	s := &service{flags: r, out: cmd.OutOrStdout(), started: time.Now()}
	cfg, err := r.agentConfig(cmd, s)
	if err != nil {
		return err
	}
	if err := s.loadSettings(cfg.Logger); err != nil {
		return err
	}
	cfg.Settings = s.settings
	exported, err := r.traces.open(cmd.Context(), cfg.Logger, r.id)
	if err != nil {
		return err
	}
	defer exported.close()
	cfg.TracerProvider = exported.tracerProvider()
	a, err := agent.New(cfg)
	if errors.Is(err, agent.ErrResponse) {
		return usagef("--respond: %w", err)
	}
	if err != nil {
		return err
	}
	err = a.Run(cmd.Context())
	if errors.Is(err, agent.ErrSuperseded) {
		s.log.Info("a successor has taken over")
		return nil
	}
	return err
}

func (r *runFlags) agentConfig(cmd *cobra.Command, s *service) (agent.Config, error) {
	cfg := agent.Config{
		ID: r.id, Name: r.releases.name, Version: version, Groups: r.groups,
		StateDir: r.stateDir, TTL: r.ttl, HeartbeatEvery: r.heartbeat,
		Supervise: upgrade.Supervision(r.supervise),
		Start:     s.start, Stop: s.stop, Fingerprint: r.around.config(),
	}
	cfg.Revision, cfg.BuildTime = built()
	var err error
	if cfg.Logger, err = r.logs.logger(cmd.ErrOrStderr()); err != nil {
		return cfg, err
	}
	cfg.Logger = agent.Logger(cfg.Logger, r.id, version)
	s.log = cfg.Logger
	if cfg.Etcd, err = r.etcd.config(); err != nil {
		return cfg, err
	}
	if cfg.Admin, err = r.admin.config(); err != nil {
		return cfg, err
	}
	if cfg.Labels, err = parseLabels(r.labels); err != nil {
		return cfg, err
	}
	cfg.Plugins.Dir, cfg.Plugins.RequireSigned = r.plugins, r.signed
	if cfg.Tasks, err = r.tasks.config(); err != nil {
		return cfg, err
	}
	if cfg.Rollout, err = r.rollouts.config(); err != nil {
		return cfg, err
	}
	cfg.Health.Checks = append([]health.Check{{Name: "spool", Every: 2 * time.Second, Func: s.checkSpool}}, faults(s.started)...)
	cfg.Upgrade = upgrade.Config{Policy: r.policy, RemoteRollback: upgrade.RemoteRollback(r.remote), Probation: r.probation, ProbationLimit: r.longest, Retention: r.retention, RetentionLimit: r.keepLimit, RetentionBytes: r.keepBytes, BusyLimit: r.busyLimit, CheckEvery: r.check, PluginAPI: pluginAPI, ConfigSchema: configSchema}
	if r.busyFile != "" {
		cfg.Upgrade.Busy = r.busy
	}
	if cfg.Responses, err = r.responses(); err != nil {
		return cfg, err
	}
	if !cfg.Upgrade.RemoteRollback.Valid() {
		return cfg, usagef("--remote-rollback: want offered, any or never, found %q", r.remote)
	}
	switch cfg.Supervise {
	case upgrade.SuperviseAuto, upgrade.SuperviseAlways, upgrade.SuperviseNever:
	default:
		return cfg, usagef("--supervise: want auto, always or never, found %q", r.supervise)
	}
	if (r.releases.location == "") == r.releases.trust.given() {
		return cfg, usagef("--repo and --trust (or --trust-roots) belong together: give both, or none to refuse upgrades")
	}
	if r.signed && !r.releases.trust.given() {
		return cfg, usagef("--require-signed-plugins says that signatures are needed, and nothing says whose: give --trust or --trust-roots")
	}
	if r.releases.location != "" {
		if cfg.Upgrade.Source, cfg.Upgrade.Trust, err = r.releases.open(cfg.Logger); err != nil {
			return cfg, err
		}
	}
	if r.cosignKey != "" {
		cfg.Upgrade.Requirements, err = cosigned(&r.releases.repository, r.cosignKey)
	}
	return cfg, err
}

// responses are what --respond asks for.
func (r *runFlags) responses() (all []agent.Response, err error) {
	for _, text := range r.respond {
		response, err := agent.ParseResponse(text)
		if err != nil {
			return nil, usagef("--respond: %w", err)
		}
		switch {
		case response.Action == agent.RespondCall:
			return nil, usagef("--respond %s: want restart-plugin:<plugin>, refuse-upgrades, drain or stop", text)
		case response.Plugin != "" && r.plugins == "":
			return nil, usagef("--respond %s: without --plugins there is no plugin %s to restart: name the directory", text, response.Plugin)
		}
		all = append(all, response)
	}
	return all, nil
}

// busy is what the operator's file says that upgrades wait for. A file that
// cannot be looked at is no reason to wait.
func (r *runFlags) busy(context.Context) string {
	text, err := os.ReadFile(r.busyFile)
	if err != nil {
		return ""
	}
	why, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if why == "" {
		why = r.busyFile + " exists"
	}
	return why
}

// What a release's requires is compared with.
const (
	pluginAPI    = "1.0.0"
	configSchema = "1.0.0"
)

func parseLabels(pairs []string) (map[string]string, error) {
	labels := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usagef("--label: want key=value, such as env=test, found %q", pair)
		}
		if old, twice := labels[key]; twice && old != value {
			return nil, usagef("--label: want one value for %s, found %q and %q", key, old, value)
		}
		labels[key] = value
	}
	return labels, nil
}

// built says what the program was built from, as far as the toolchain noted
// it down.
func built() (revision, at string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", ""
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.time":
			at = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if revision != "" && modified {
		revision += " (modified)"
	}
	return revision, at
}
