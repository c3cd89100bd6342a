package upgrade

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracing"
)

// The spans of an attempt. Those of its phases are below SpanAttempt where the
// incumbent is at work, and below SpanSuccessor where that is the successor.
const (
	// SpanAttempt covers an upgrade or a rollback in the process that was asked
	// for it, until it has ended there.
	SpanAttempt = "perennial.upgrade"
	// SpanSuccessor covers the successor's part, from its start until it is in
	// charge or has lost.
	SpanSuccessor = "perennial.upgrade.successor"
	// SpanResume covers what a start did about an attempt that it found
	// unfinished.
	SpanResume = "perennial.upgrade.resume"
	// SpanDrain covers the drain of a process that was superseded, or that was a
	// successor and is not wanted.
	SpanDrain = "perennial.upgrade.drain"

	SpanCheck     = "perennial.upgrade.check"
	SpanDownload  = "perennial.upgrade.download"
	SpanVerify    = "perennial.upgrade.verify"
	SpanWait      = "perennial.upgrade.wait"
	SpanStart     = "perennial.upgrade.start"
	SpanProbation = "perennial.upgrade.probation"
	SpanCommit    = "perennial.upgrade.commit"
	SpanRollback  = "perennial.upgrade.rollback"
	SpanTakeOver  = "perennial.upgrade.takeover"
)

// phaseOf names the span of the phase that begins with a state; "" for one that
// an attempt ends in.
func phaseOf(s State) string {
	switch s {
	case Requested:
		return SpanCheck
	case Downloading:
		return SpanDownload
	case Verifying:
		return SpanVerify
	case Staged:
		return SpanWait
	case Starting:
		return SpanStart
	case Probation:
		return SpanProbation
	case Committing:
		return SpanCommit
	case RollingBack:
		return SpanRollback
	default:
		return ""
	}
}

// course is an attempt as its trace shows it: a span for this process's part,
// and below it one phase after the other. The zero value shows nothing. One
// goroutine uses it: Open's, then Run's, then Close's.
type course struct {
	tracer tracing.Tracer
	part   tracing.Span
	phase  tracing.Span
	name   string // of the phase; empty between two
	begun  bool   // part has, and has not ended
}

// begin begins this process's part.
func (c *course) begin(ctx context.Context, name string, at time.Time, links ...trace.SpanContext) context.Context {
	ctx, c.part = c.tracer.StartAt(ctx, name, at, links...)
	c.begun = true
	return ctx
}

// enter ends the phase before, which failed with err unless that is nil, and
// begins the next one; none for the empty name. One that goes on is left alone.
// Where no part has begun, as at a start that finds an attempt unfinished, there
// is no phase: it would be a trace of its own.
func (c *course) enter(name string, err error) {
	if name == c.name || !c.begun {
		return
	}
	c.phase.End(err)
	if c.phase, c.name = (tracing.Span{}), name; name != "" {
		_, c.phase = c.tracer.Start(c.part.In(context.Background()), name, trace.SpanKindInternal)
	}
}

// end ends what is open, with why if it is not nil.
func (c *course) end(why error, attributes ...attribute.KeyValue) {
	c.enter("", why)
	c.part.Set(attributes...)
	c.part.End(why)
	c.part, c.begun = tracing.Span{}, false
}

// in returns ctx with the present phase as the span that others begin below.
func (c *course) in(ctx context.Context) context.Context {
	if c.name == "" {
		return c.part.In(ctx)
	}
	return c.phase.In(ctx)
}

// below returns ctx with the span that the host program's part is below.
func (u *Upgrader) below(ctx context.Context) context.Context { return u.course.in(u.Trace(ctx)) }

// follow shows a state that was just recorded.
func (u *Upgrader) follow(last Attempt) {
	var why error
	if last.State == Failed || last.State == RollingBack {
		why = errors.New(last.Reason)
	}
	u.course.enter(phaseOf(last.State), why)
}

// traceAttempt begins the trace of a, or goes on with the one that r comes from.
func (u *Upgrader) traceAttempt(ctx context.Context, r Request, a *Attempt) context.Context {
	var origin trace.SpanContext
	if last := u.journal.last; last.State == Committed && last.To.Binary == u.running.Ref.Binary {
		// What a rollback takes back, and what an upgrade came after.
		origin, _ = tracing.Parse(last.Traceparent)
	}
	ctx = u.course.begin(tracing.Join(ctx, r.Traceparent), SpanAttempt, a.Started, origin)
	a.Traceparent = tracing.Text(ctx)
	u.course.part.Set(a.attributes()...)
	u.takePart(ctx)
	u.course.enter(SpanCheck, nil)
	return ctx
}

// endAttempt ends it; err is what the attempt returns.
func (u *Upgrader) endAttempt(a Attempt, err error) {
	switch last := u.journal.last; {
	case errors.Is(err, ErrSuperseded):
		a, err = last, nil
		a.State = Committed
	case last.Started.Equal(a.Started) && last.OrderID == a.OrderID:
		a = last
	default: // the journal could not be begun
		a.State = Failed
	}
	u.course.end(err, append(a.attributes(), attribute.String(tracing.State, string(a.State)))...)
}

// attributes are what the spans of an attempt tell of it.
func (a Attempt) attributes() []attribute.KeyValue {
	list := []attribute.KeyValue{
		attribute.String(tracing.Attempt, a.OrderID),
		attribute.String(tracing.Action, string(a.Action)),
		attribute.String(tracing.From, a.From.Pinned()),
		attribute.String(tracing.Release, a.To.Pinned()),
	}
	if a.Class != "" {
		list = append(list, attribute.String(tracing.Class, string(a.Class)))
	}
	return list
}

// traceSuccessor goes on with the trace that the incumbent has handed over.
func (u *Upgrader) traceSuccessor() {
	offered := *u.handover.offer.Attempt
	ctx := u.course.begin(tracing.Join(context.Background(), offered.Traceparent), SpanSuccessor, u.opened)
	u.course.part.Set(offered.attributes()...)
	u.takePart(ctx)
}

// takePart notes where Trace goes on.
func (u *Upgrader) takePart(ctx context.Context) {
	text := tracing.Text(ctx)
	u.part.Store(&text)
}

// Trace returns ctx with the span of the upgrade or rollback that this process
// has part in, or had last, as the one that others begin below, so that what the
// host program does about it shows in the same trace. Without one ctx comes back
// as it is. The context of a hook and of Stateful has it already.
func (u *Upgrader) Trace(ctx context.Context) context.Context {
	text := u.part.Load()
	if text == nil {
		return ctx
	}
	return tracing.Join(ctx, *text)
}

// resumption is what a start found unfinished.
type resumption struct {
	state State // empty for nothing
	at    time.Time
}

// resumedVariable tells an executable what the one that executed it found: a
// span that is open at execve never ends, so it is made afterwards.
const resumedVariable = "PERENNIAL_RESUMED"

// found notes that the journal's attempt was unfinished.
func (u *Upgrader) found(s State) { u.resumed = resumption{s, time.Now()} }

// passOn has the executable that takes this process's place tell it.
func (r resumption) passOn() error {
	if r.state == "" {
		return nil
	}
	return os.Setenv(resumedVariable, string(r.state)+" "+r.at.Format(time.RFC3339Nano))
}

// takeResumption reads what passOn has left, once.
func takeResumption() (r resumption) {
	state, at, _ := strings.Cut(os.Getenv(resumedVariable), " ")
	_ = os.Unsetenv(resumedVariable) // it fails for a name that is none
	when, err := time.Parse(time.RFC3339Nano, at)
	if err != nil || !State(state).Valid() || time.Until(when) > 0 {
		return resumption{}
	}
	return resumption{State(state), when}
}

// traceResume shows what was found unfinished, in the trace of the attempt.
func (u *Upgrader) traceResume() {
	if u.resumed.state == "" {
		return
	}
	last := u.journal.last
	_, span := u.course.tracer.StartAt(tracing.Join(context.Background(), last.Traceparent), SpanResume, u.resumed.at)
	span.Set(last.attributes()...)
	span.Set(attribute.String(tracing.Found, string(u.resumed.state)), attribute.String(tracing.State, string(last.State)))
	var why error
	if last.State != Committed {
		why = errors.New(last.Reason)
	}
	span.End(why)
	u.resumed = resumption{}
}

// traceOf is the trace of the attempt by which ref came to run, for the record
// of its end; empty where a is about another.
func (a Attempt) traceOf(ref Ref) string {
	if a.To.Binary != ref.Binary {
		return ""
	}
	return tracing.Clean(a.Traceparent)
}
