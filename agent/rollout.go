package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/upgrade/rollout"
)

// Rollout says what an agent has to do with the rollouts of its fleet, see
// package upgrade/rollout. The zero value has it follow the plan of
// rollout.DefaultFleet.
type Rollout struct {
	// Fleet is the fleet whose plan the agent follows; default
	// rollout.DefaultFleet. Fleets of one root share the registry, which tells of
	// each agent in which fleet it is: no other's rollouts count it.
	Fleet string
	// Off has the agent follow no plan.
	Off bool
	// Controller has this agent stand for election as the one that moves the
	// fleet's rollouts on. Any number of agents may, and one at least must, unless
	// another program does it. It takes rights that agents do not have: one
	// without them says so once, and leaves it to others.
	Controller bool
	// Control is what the controller does beside that: its Checkers, Notify,
	// Webhooks, Observe and TTL. The rest of it is filled in.
	Control rollout.ControllerConfig
}

func (r *Rollout) check() error {
	if r.Fleet == "" {
		r.Fleet = rollout.DefaultFleet
	}
	if err := etcdkv.ValidID(r.Fleet); err != nil {
		return fmt.Errorf("Rollout.Fleet: %w", err)
	}
	return nil
}

// followed is the fleet whose plan is followed; "" = none is.
func (r *Rollout) followed() string {
	if r.Off {
		return ""
	}
	return r.Fleet
}

// Rollouts is where the rollouts of a fleet are started and steered; "" is
// rollout.DefaultFleet.
func (d *Directory) Rollouts(fleet string) (*rollout.Operator, error) {
	return rollout.NewOperator(rollout.OperatorConfig{
		Client: d.client, Root: d.keys.root, Fleet: fleet, CheckDocument: config.CheckDocument,
	})
}

// RolloutController makes a controller of the rollouts of cfg.Fleet. Client,
// Root, Agents and Publisher are filled in.
func (d *Directory) RolloutController(cfg rollout.ControllerConfig) (*rollout.Controller, error) {
	cfg.Client, cfg.Root = d.client, d.keys.root
	cfg.Agents = RolloutFleet(d, cfg.Fleet)
	cfg.Publisher = rolloutPublisher{d}
	return rollout.NewController(cfg)
}

// RolloutMember is e as a rollout sees it that has been so since now.
func RolloutMember(e *Entry, now time.Time) *rollout.Member {
	m := &rollout.Member{
		ID: e.ID, Fleet: e.Fleet, Labels: e.Labels, Groups: e.Groups, Host: e.Host, Platform: e.Platform,
		Joined: e.Joined, Version: e.Version, Manifest: e.ManifestDigest, Binary: e.BinaryDigest,
		Started: e.Started, Told: now,
	}
	for _, p := range e.Plugins {
		if m.Plugins == nil {
			m.Plugins = make(map[string]string, len(e.Plugins))
		}
		m.Plugins[p.Name] = p.Digest
	}
	s := e.Status
	if s == nil {
		return m
	}
	m.Installed = e.installed(&s.Upgrade)
	if c := s.Config; c != nil {
		m.ConfigDigest, m.ConfigRevision = c.RunningDigest, c.Running
	}
	for _, ref := range s.Upgrade.Retained {
		m.Retained = append(m.Retained, ref.Pinned())
	}
	m.Ready = s.Health.Ready
	m.Alerts = alarms(&s.Health)
	for i := range m.Alerts {
		m.Alerts[i].Lasted = s.At.Sub(m.Alerts[i].Since)
	}
	if h := s.Upgrade.Hold; h != nil {
		m.Held = h.By + ": " + h.Reason
	}
	m.Report = s.Rollout
	m.Overdue = e.Overdue(now) > 0
	return m
}

// alarms are those of h that a rollout counts, alerts before checks.
func alarms(h *health.Report) (all []rollout.Alert) {
	for i := range h.Alerts {
		a := &h.Alerts[i]
		if a.Indicator == health.HeartbeatLatency || a.Indicator == health.EtcdStale {
			// Of etcd, as the check of the registration below: after each outage it
			// would be all agents, and no release did it. One that cannot reach etcd
			// leaves the registry.
			continue
		}
		since := a.FiredAt
		if since.IsZero() { // earlier releases do not tell it
			since = a.Since
		}
		all = append(all, rollout.Alert{Name: a.Name, Severity: string(a.Severity), Since: since})
	}
	for i := range h.Checks {
		c := &h.Checks[i]
		if !c.OK && !c.At.IsZero() && c.Kind != health.Informative && c.Name != conditionRegistration {
			all = append(all, rollout.Alert{Check: true, Name: c.Name, Severity: string(health.Critical), Since: c.Since})
		}
	}
	return all
}

// alarmNames names what is no doing of a change that begins now, the worst first:
// alarms, and what is pending, as each alert is for a while after a start.
func alarmNames(h health.Report) (names []string) {
	all := alarms(&h)
	slices.SortStableFunc(all, func(a, b rollout.Alert) int { // critical goes before warning
		return strings.Compare(a.Severity, b.Severity)
	})
	for _, a := range all {
		names = append(names, a.Name)
	}
	for i := range h.Indicators {
		if n := &h.Indicators[i]; n.State == health.Pending {
			names = append(names, n.Rule)
		}
	}
	return names
}

// errRollout is of what trying again does not mend.
var errRollout = errors.New("Config.Rollout")

// control has the agent stand for election as its fleet's controller, once this
// process is in charge.
func (a *Agent) control(r *running) {
	if !a.cfg.Rollout.Controller {
		return
	}
	r.start(r.host, "control of rollouts", func(ctx context.Context) error {
		return a.again(ctx, "moving rollouts on", errRollout, func(ctx context.Context) error {
			cfg := a.cfg.Rollout.Control
			cfg.Fleet, cfg.ID, cfg.Logger = a.cfg.Rollout.Fleet, a.cfg.ID, a.log
			c, err := a.directory().RolloutControl(cfg, a.fleetMetrics)
			if err != nil {
				return fmt.Errorf("%w: %w", errRollout, err)
			}
			return c.Run(ctx)
		})
	})
}

// directory is the registry by the agent's own connection; it is not closed.
func (a *Agent) directory() *Directory {
	return &Directory{client: a.presence.client, keys: a.presence.registry.keys, addr: strings.Join(a.cfg.Etcd.Endpoints, ",")}
}
