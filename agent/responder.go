package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/perennial-go/perennial/health"
	"github.com/perennial-go/perennial/upgrade"
	"github.com/perennial-go/perennial/upgrade/release"
)

// conditionResponse begins the name of the readiness condition of an alert that
// has the agent drained.
const conditionResponse = "response/"

// responder does what Config.Responses says. What it goes by is how the alerts
// stand, and events only wake it, so that none is missed that fired before this
// process was in charge, or while an attempt was under way.
type responder struct {
	*Agent
	total     *prometheus.CounterVec
	reactions []*reaction

	mu       sync.Mutex
	record   *responseRecord // nil before this process is in charge
	refusing []string        // alerts for which upgrades are refused
}

// reaction is one response with what has become of it in this process. Its
// fields are its goroutine's alone.
type reaction struct {
	Response
	*responder
	wake chan struct{}
	stop func(error)
	book *responseRecord

	answered int           // the count of the alert that was responded to last
	inForce  bool          // to be undone when the alert is resolved
	waits    bool          // for the end of an attempt, which was said
	calling  chan struct{} // closed once what the program wrote has returned
}

func newResponder(a *Agent) (*responder, error) {
	responses, err := a.checkResponses()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	p := &responder{Agent: a, total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "perennial_alert_responses_total",
		Help: "What the agent did by itself when alerts fired, by outcome: done, failed, limited or undone. Counts begin with the process.",
	}, []string{"alert", "action", "outcome"})}
	for _, r := range responses {
		p.reactions = append(p.reactions, &reaction{Response: r, responder: p, wake: make(chan struct{}, 1)})
		for _, o := range []Outcome{ResponseDone, ResponseFailed, ResponseLimited, ResponseUndone} {
			p.total.WithLabelValues(r.Alert, r.what(), string(o))
		}
	}
	if err := a.health.Registry().Register(p.total); err != nil {
		return nil, fmt.Errorf("agent: metrics of responses: %w", err)
	}
	return p, nil
}

// begin is called once this process is in charge.
func (p *responder) begin(r *running) {
	if len(p.reactions) == 0 {
		return
	}
	// Not before: until now the record was the incumbent's.
	record := openResponses(p.cfg.StateDir)
	p.mu.Lock()
	p.record = record
	p.mu.Unlock()
	if record.broken != nil {
		p.log.Error("what alerts led to before is not known: no alert stops the agent until that is mended", "error", record.broken)
	}
	remove := p.health.OnAlert(func(health.AlertEvent) { p.look() })
	context.AfterFunc(r.host, remove)
	for _, re := range p.reactions {
		re.stop, re.book = r.fail, record
		r.tasks.Go(func() { re.follow(r.host) })
	}
}

// told are the responses that were made last, the newest first.
func (p *responder) told() []ResponseReport {
	p.mu.Lock()
	record := p.record
	p.mu.Unlock()
	if record == nil {
		return nil
	}
	return record.told()
}

// look has every reaction see how its alert stands.
func (p *responder) look() {
	for _, re := range p.reactions {
		ring(re.wake)
	}
}

func (re *reaction) follow(ctx context.Context) {
	for {
		re.step(ctx)
		select {
		case <-ctx.Done():
			return
		case <-re.wake:
		}
	}
}

func (re *reaction) step(ctx context.Context) {
	all := re.health.Alerts()
	i := slices.IndexFunc(all, func(a health.Alert) bool { return a.Name == re.Alert })
	if i < 0 || ctx.Err() != nil || re.upgrader.Successor() != 0 {
		return
	}
	switch a := all[i]; {
	case a.State != health.Firing:
		re.waits = false
		if re.inForce {
			re.undo(ctx, a)
		}
	case a.Count == re.answered:
	case re.Action != RespondRefuseUpgrades && re.attemptUnderWay():
		if !re.waits {
			re.waits = true
			re.log.Info("response to an alert waits for the end of the upgrade", "alert", re.Alert, "action", re.what())
		}
	default:
		re.answered, re.waits = a.Count, false
		if !re.inForce { // else it has fired again before it was seen to be resolved
			re.respond(ctx, a)
		}
	}
}

func (re *reaction) attemptUnderWay() bool {
	s := re.upgrader.Status().State
	return s != "" && s != upgrade.Idle && !s.Terminal()
}

// respond does it once, unless the limit forbids it.
func (re *reaction) respond(ctx context.Context, a health.Alert) {
	limited, err := re.book.begin(re.Response, time.Now())
	switch {
	case limited != "":
		re.note(ResponseLimited, limited)
		return
	case err != nil && re.Action == RespondStop:
		// Nothing would keep the next process from stopping as well.
		re.note(ResponseFailed, "it cannot be recorded: "+err.Error())
		return
	case err != nil:
		re.log.Warn("response to an alert is not recorded: its limit holds in this process alone", "alert", re.Alert, "action", re.what(), "error", err)
	}
	re.log.Warn("responding to an alert", "alert", re.Alert, "action", re.what())
	if re.Action == RespondStop {
		re.note(ResponseDone, "")
		re.stop(fmt.Errorf("%w: %s fires, with %g above %g", ErrStoppedByAlert, re.Alert, float64(a.Value), float64(a.Threshold)))
		return
	}
	if err := re.do(ctx, a); err != nil {
		re.note(ResponseFailed, err.Error())
		return
	}
	re.inForce = re.lasting()
	re.note(ResponseDone, "")
}

func (re *reaction) do(ctx context.Context, a health.Alert) error {
	ctx, cancel := context.WithTimeout(ctx, re.Timeout)
	defer cancel()
	switch re.Action {
	case RespondRestartPlugin:
		return re.plugins.Restart(ctx, re.Plugin)
	case RespondRefuseUpgrades:
		re.refuse(true)
	case RespondDrain:
		re.health.Set(conditionResponse+re.Alert, fmt.Errorf("drained since alert %s fires", re.Alert))
	case RespondCall:
		return re.call(ctx, re.Do, a)
	case RespondStop: // respond does it
	}
	return nil
}

// undo ends what lasts while the alert fires.
func (re *reaction) undo(ctx context.Context, a health.Alert) {
	re.inForce = false
	var err error
	switch re.Action {
	case RespondRefuseUpgrades:
		re.refuse(false)
	case RespondDrain:
		re.health.RemoveCheck(conditionResponse + re.Alert)
	case RespondCall:
		ctx, cancel := context.WithTimeout(ctx, re.Timeout)
		defer cancel()
		err = re.call(ctx, re.Undo, a)
	case RespondRestartPlugin, RespondStop: // over when done
	}
	if err != nil {
		re.note(ResponseFailed, "undo: "+err.Error())
		return
	}
	re.note(ResponseUndone, "")
}

// call calls what the program wrote, and gives it up when ctx ends.
func (re *reaction) call(ctx context.Context, f func(context.Context, health.Alert) error, a health.Alert) error {
	if re.calling != nil {
		select {
		case <-re.calling:
		default:
			return errors.New("the call before has not returned: it must heed its context")
		}
	}
	returned, err := make(chan struct{}), errors.New("it panicked")
	re.calling = returned
	go func() {
		defer close(returned)
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("it panicked: %v", v)
			}
		}()
		err = f(ctx, a)
	}()
	select {
	case <-returned:
		re.calling = nil
		return err
	case <-ctx.Done():
		return fmt.Errorf("it has not returned: %w", ctx.Err())
	}
}

// note records what became of the response, everywhere where somebody looks.
func (re *reaction) note(o Outcome, detail string) {
	re.total.WithLabelValues(re.Alert, re.what(), string(o)).Inc()
	switch o {
	case ResponseFailed, ResponseLimited:
		re.log.Warn("response to an alert not made", "alert", re.Alert, "action", re.what(), "state", o, "reason", detail)
	default:
		re.log.Info("response to an alert", "alert", re.Alert, "action", re.what(), "state", o)
	}
	if re.upgrader.Successor() != 0 {
		return // the record is the successor's: this is what ran when it took over
	}
	if err := re.book.end(re.Response, o, detail, time.Now()); err != nil {
		re.log.Warn("the end of a response to an alert is not recorded", "alert", re.Alert, "action", re.what(), "error", err)
	}
	re.touchSoon()
}

// refuse has upgrades refused for this alert, or not any more.
func (re *reaction) refuse(on bool) {
	re.mu.Lock()
	defer re.mu.Unlock()
	re.refusing = slices.DeleteFunc(re.refusing, func(alert string) bool { return alert == re.Alert })
	if on {
		re.refusing = append(re.refusing, re.Alert)
	}
}

// noRefusal is the requirement of upgrades that no response refuses them.
type noRefusal struct{ *Agent }

// String implements release.Requirement.
func (noRefusal) String() string { return "no alert that has upgrades refused fires" }

// Local implements release.LocalRequirement.
func (noRefusal) Local() {}

// Check implements release.Requirement.
func (n noRefusal) Check(context.Context, *release.Manifest, release.Pin) error {
	n.responder.mu.Lock()
	defer n.responder.mu.Unlock()
	if len(n.responder.refusing) == 0 {
		return nil
	}
	return fmt.Errorf("alert %s fires, and upgrades are refused while it does: ask again when it is resolved, or roll back", n.responder.refusing[0])
}
