package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/plugin"
)

// ResponseAction is what an agent does by itself when an alert fires.
type ResponseAction string

// The actions of a Response.
const (
	// RespondRestartPlugin restarts Response.Plugin.
	RespondRestartPlugin ResponseAction = "restart-plugin"
	// RespondRefuseUpgrades refuses upgrades, forced ones too, while the alert
	// fires. An attempt that was admitted before goes on, and rollbacks are made:
	// they may be the cure. It has no limit.
	RespondRefuseUpgrades ResponseAction = "refuse-upgrades"
	// RespondDrain makes the agent not ready while the alert fires, so that load
	// balancers send it nothing new. It serves whoever comes all the same, and
	// tasks of the fleet still run.
	RespondDrain ResponseAction = "drain"
	// RespondStop drains and ends the agent; Run then returns ErrStoppedByAlert,
	// and what starts the agent again is the service manager.
	RespondStop ResponseAction = "stop"
	// RespondCall calls Response.Do.
	RespondCall ResponseAction = "call"
)

// ErrResponse is wrapped by every refusal of a Response.
var ErrResponse = errors.New("invalid response")

// ErrStoppedByAlert is wrapped in what Run returns after a Response has stopped
// the agent.
var ErrStoppedByAlert = errors.New("stopped by an alert")

// Response is what the agent does when an alert fires, once each time that it
// fires and at most Limit times Within, restarts and upgrades of the agent
// included: what was done is on disk before it is done, so that an agent that
// an alert stops does not stop again and again. A firing that comes too soon is
// recorded as limited, and nothing more is done about it, also later.
//
// Only the process in charge responds: not a successor on probation. While an
// attempt to upgrade is under way nothing is begun but the refusal of upgrades;
// if the attempt fails, what still fires then is responded to, and after a
// commit that is the successor's, by its own figures. The refusal of upgrades
// and the drain are undone when the alert is resolved, also in an attempt.
type Response struct {
	// Alert is the name of a rule of the agent's health.
	Alert string
	// Action is required, but for Do.
	Action ResponseAction
	// Plugin is the name of the one to restart.
	Plugin string
	// Do is the program's own action, whose Action is RespondCall. It must heed
	// its ctx; what overruns Timeout has failed, and is not called again before it
	// has returned. Undo, which may be nil, is called when the alert is resolved
	// after a Do that did not fail.
	Do, Undo func(ctx context.Context, a health.Alert) error
	// Limit is how often it is done Within; default 1, at most 100. Within is
	// 1 h by default and 168 h at most.
	Limit  int
	Within time.Duration
	// Timeout bounds a restart, Do and Undo; default 1 min.
	Timeout time.Duration
}

const (
	maxResponseLimit  = 100
	maxResponseWithin = 7 * 24 * time.Hour
)

// ParseResponse reads "<alert>=<action>[:<plugin>][,limit=<n>][,within=<duration>]",
// such as "memory=restart-plugin:logtail,limit=2,within=30m". New checks what it
// says. RespondCall cannot be written so.
func ParseResponse(text string) (Response, error) {
	var r Response
	what, settings, _ := strings.Cut(text, ",")
	alert, action, found := strings.Cut(what, "=")
	if !found || alert == "" || action == "" {
		return r, fmt.Errorf("%w %q: want <alert>=<action>, such as memory=restart-plugin:logtail", ErrResponse, text)
	}
	r.Alert = alert
	action, r.Plugin, _ = strings.Cut(action, ":")
	r.Action = ResponseAction(action)
	for settings != "" {
		var one string
		one, settings, _ = strings.Cut(settings, ",")
		name, value, _ := strings.Cut(one, "=")
		var err error
		switch name {
		case "limit":
			r.Limit, err = strconv.Atoi(value)
		case "within":
			r.Within, err = time.ParseDuration(value)
		default:
			err = errors.New("want limit=<n> or within=<duration>")
		}
		if err != nil {
			return r, fmt.Errorf("%w %q: %q: %w", ErrResponse, text, one, err)
		}
		if (name == "limit" && r.Limit < 1) || (name == "within" && r.Within <= 0) {
			return r, fmt.Errorf("%w %q: %q: want more than 0", ErrResponse, text, one)
		}
	}
	return r, nil
}

// key tells responses apart, also in their record.
func (r Response) key() string { return r.Alert + "=" + r.what() }

// what is the action with what it is about.
func (r Response) what() string {
	if r.Plugin != "" {
		return string(r.Action) + ":" + r.Plugin
	}
	return string(r.Action)
}

// lasting reports whether the response is in force until the alert is resolved.
func (r Response) lasting() bool {
	return r.Action == RespondDrain || r.Action == RespondRefuseUpgrades || r.Undo != nil
}

func (r Response) normalised() (Response, error) {
	if r.Action == "" && r.Do != nil {
		r.Action = RespondCall
	}
	fail := func(format string, args ...any) (Response, error) {
		return r, fmt.Errorf("%w to alert %q: "+format, append([]any{ErrResponse, r.Alert}, args...)...)
	}
	switch r.Action {
	case RespondRestartPlugin:
		if !plugin.ValidName(r.Plugin) {
			return fail("plugin %q: want the name of the one to restart, as in restart-plugin:logtail", r.Plugin)
		}
	case RespondRefuseUpgrades:
		if r.Limit != 0 || r.Within != 0 {
			return fail("%s has no limit: it does nothing by itself", r.Action)
		}
	case RespondDrain, RespondStop:
	case RespondCall:
		if r.Do == nil {
			return fail("Do is missing: want the function that call is to call")
		}
	default:
		return fail("action %q: want %s, %s, %s or %s, or a Do", r.Action, RespondRestartPlugin, RespondRefuseUpgrades, RespondDrain, RespondStop)
	}
	switch {
	case r.Plugin != "" && r.Action != RespondRestartPlugin:
		return fail("%s is about no plugin, found %q", r.Action, r.Plugin)
	case r.Action != RespondCall && (r.Do != nil || r.Undo != nil):
		return fail("Do and Undo belong to %s, not to %s", RespondCall, r.Action)
	case r.Limit < 0 || r.Limit > maxResponseLimit:
		return fail("limit %d: want 1 to %d, or 0 for 1", r.Limit, maxResponseLimit)
	case r.Within < 0 || r.Within > maxResponseWithin:
		return fail("within %v: want up to %v, or 0 for 1h", r.Within, maxResponseWithin)
	case r.Timeout < 0:
		return fail("timeout %v: want 0, for 1m, or more", r.Timeout)
	}
	if r.Limit == 0 {
		r.Limit = 1
	}
	if r.Within == 0 {
		r.Within = time.Hour
	}
	if r.Timeout == 0 {
		r.Timeout = time.Minute
	}
	return r, nil
}

// checkResponses returns the responses with their defaults, or says which
// cannot be made.
func (a *Agent) checkResponses() ([]Response, error) {
	if n := len(a.cfg.Responses); n > maxResponses {
		return nil, fmt.Errorf("%w: there are %d, at most %d may be", ErrResponse, n, maxResponses)
	}
	rules := a.health.Alerts()
	var all []Response
	for _, r := range a.cfg.Responses {
		r, err := r.normalised()
		if err != nil {
			return nil, err
		}
		switch {
		case !slices.ContainsFunc(rules, func(rule health.Alert) bool { return rule.Name == r.Alert }):
			names := make([]string, len(rules))
			for i, rule := range rules {
				names[i] = rule.Name
			}
			return nil, fmt.Errorf("%w to alert %q: no rule has that name; there are %s", ErrResponse, r.Alert, strings.Join(names, ", "))
		case r.Plugin != "" && a.cfg.Plugins.Dir == "":
			return nil, fmt.Errorf("%w to alert %q: plugin %s is to be restarted, and Config.Plugins.Dir is empty: name the plugins directory", ErrResponse, r.Alert, r.Plugin)
		case slices.ContainsFunc(all, func(o Response) bool { return o.key() == r.key() }):
			return nil, fmt.Errorf("%w to alert %q: %s is there twice", ErrResponse, r.Alert, r.what())
		}
		all = append(all, r)
	}
	return all, nil
}
