package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

// Books is the value of rollout/<fleet>/books: what a controller knows of single
// agents and the registry does not show, for the one that follows it. It is
// written in the transaction that moves the mark, and when something of it changes.
type Books struct {
	Schema  int    `json:"schema"`
	Rollout string `json:"rollout"`
	Number  int    `json:"number"` // of the instruction
	// Attempt is how long that gives each agent; 0 = it is not told.
	Attempt Seconds `json:"attempt_seconds,omitempty"`
	// UnderWay are, by id, the agents that were admitted and have not ended, and
	// those that ended a moment ago, to see whether that lasts.
	UnderWay map[string]Entrant `json:"under_way,omitempty"`
	// Former are those whom another instruction admitted, or another rollout, and
	// who may still be at it.
	Former map[string]Entrant `json:"former,omitempty"`
	// Attempts are how long the instructions of Former give each agent, by request;
	// one that is not there does not tell.
	Attempts map[string]Seconds `json:"attempts,omitempty"`
	// Lost are those that failed, are silent, gone or held, by id: all that are not
	// in the registry, and of the others the first few, for people.
	Lost map[string]Loss `json:"lost,omitempty"`
	// Figures are the newest, Stages those of each stage that has begun, of the
	// agents that it was the first to admit.
	Figures Figures   `json:"figures"`
	Stages  []Figures `json:"stages,omitempty"`
	// Told is the number of the last record that whoever is to be told of was told
	// of; it is the controller's.
	Told int64 `json:"told,omitempty"`
	// Waits says what the rollout waits for, in one sentence.
	Waits string `json:"waits,omitempty"`
	// Stopped is since when those who are admitted do not start, as the fleet is
	// frozen or the rollout halted; zero = they do.
	Stopped time.Time `json:"stopped,omitzero"`
}

// Entrant is an agent under way. Its times are kept to the millisecond.
type Entrant struct {
	// Since is when it was admitted, or was seen to have begun. Its deadline is
	// reckoned from there.
	Since time.Time
	// Stage is the index of the stage that admitted it.
	Stage int
	// Started is whether it has reported that it began.
	Started bool
	// Ended is when it was seen to have reported that it succeeded, Gone when it
	// was seen to have left the registry; zero = it has not.
	Ended, Gone time.Time
	// Pair is the value of Stage.PairBy.
	Pair string
	// Request is that of the instruction that admitted it, of one in Former.
	Request string
}

// entrant is how Entrant is written: there may be as many as the fleet has
// agents, in one value.
type entrant struct {
	Since   int64  `json:"since"`
	Stage   int    `json:"stage,omitempty"`
	Started bool   `json:"started,omitempty"`
	Ended   int64  `json:"ended,omitempty"`
	Gone    int64  `json:"gone,omitempty"`
	Pair    string `json:"pair,omitempty"`
	Request string `json:"request,omitempty"`
}

// MarshalJSON implements json.Marshaler: times are milliseconds since 1970.
func (e Entrant) MarshalJSON() ([]byte, error) {
	text, err := encode(entrant{milli(e.Since), e.Stage, e.Started, milli(e.Ended), milli(e.Gone), e.Pair, e.Request})
	return []byte(text), err
}

// UnmarshalJSON implements json.Unmarshaler.
func (e *Entrant) UnmarshalJSON(data []byte) error {
	var v entrant
	if err := json.Unmarshal(data, &v); err != nil {
		return err
	}
	*e = Entrant{fromMilli(v.Since), v.Stage, v.Started, fromMilli(v.Ended), fromMilli(v.Gone), v.Pair, v.Request}
	return nil
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilli(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Loss is an agent that does not count as succeeded.
type Loss struct {
	State  string    `json:"state"` // "failed", "silent", "gone", "held"
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	Stage  int       `json:"stage"`
}

const (
	// maxTracked bounds Books.UnderWay and Former, in bytes: etcd takes values of
	// 1.5 MiB by default. It is enough for some 10,000 agents under way at once.
	// No step admits more, but for a switch or a revert of all at once: of those
	// beyond it is not told apart why they left the registry, if they do.
	maxTracked = 1280 << 10
	// trackedBytes is what an entrant takes at most beside its id and its pair, also
	// once it is one of Former, with its request.
	trackedBytes = 93 + maxRolloutID
	// maxPair bounds Entrant.Pair, in bytes.
	maxPair = 128
	// maxLost is how many Books.Lost has, in at most maxLostBytes, maxShown how many
	// of them with a reason, of at most maxLossReason bytes.
	maxLost       = 2000
	maxLostBytes  = 128 << 10
	maxShown      = 100
	maxLossReason = maxReportReason
)

// size is what l takes at most, with what is quoted in its reason.
func (l Loss) size(id string) int { return 80 + len(id) + 2*len(l.Reason) }

func (e Entrant) size(id string) int { return trackedBytes + len(id) + quoted(e.Pair) }

// quoted is how many bytes s takes at most within quotation marks: what encode escapes
// has up to six.
func quoted(s string) int {
	n := len(s)
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			n++
		case r < ' ' || r == utf8.RuneError || r == '\u2028' || r == '\u2029':
			n += 5
		}
	}
	return n
}

// copied returns b with maps of its own, never nil.
func (b Books) copied() Books {
	b.UnderWay, b.Former, b.Lost = cloned(b.UnderWay), cloned(b.Former), cloned(b.Lost)
	b.Attempts = cloned(b.Attempts)
	b.Stages = slices.Clone(b.Stages)
	return b
}

func cloned[V any](m map[string]V) map[string]V {
	if m == nil {
		return map[string]V{}
	}
	return maps.Clone(m)
}

// forPlan returns b as books of p's present instruction. Whoever a former one
// admitted may still be at it: another instruction does not stop what has begun.
func (b Books) forPlan(p *Plan, now time.Time) Books {
	b = b.copied()
	b.clamp(len(p.Stages) - 1)
	if b.Rollout == p.ID && b.Number == p.Instruction.Number {
		return b
	}
	request := fmt.Sprintf("%s.%d", b.Rollout, b.Number)
	for id, e := range b.UnderWay {
		if e.Ended.IsZero() {
			e.Since, e.Request = now, request
			b.Former[id] = e
			b.Attempts[request] = b.Attempt
		}
	}
	told := int64(0)
	if b.Rollout == p.ID {
		told = b.Told
	}
	return Books{
		Told: told, Schema: Schema, Rollout: p.ID, Number: p.Instruction.Number, Attempt: Seconds(p.attempt().Seconds()),
		UnderWay: map[string]Entrant{}, Former: b.Former, Attempts: b.Attempts, Lost: map[string]Loss{}, Stopped: b.Stopped,
	}
}

// clamp keeps what names a stage within those that there are.
func (b Books) clamp(last int) {
	for id, e := range b.UnderWay {
		if n := min(max(e.Stage, 0), last); n != e.Stage {
			e.Stage = n
			b.UnderWay[id] = e
		}
	}
	for id, l := range b.Lost {
		if n := min(max(l.Stage, 0), last); n != l.Stage {
			l.Stage = n
			b.Lost[id] = l
		}
	}
}

// equal reports whether there is nothing to write.
func (b Books) equal(o *Books) bool {
	return b.Schema == o.Schema && b.Rollout == o.Rollout && b.Number == o.Number && b.Attempt == o.Attempt && b.Figures == o.Figures && b.Told == o.Told &&
		b.Waits == o.Waits && b.Stopped.Equal(o.Stopped) && slices.Equal(b.Stages, o.Stages) &&
		maps.Equal(b.UnderWay, o.UnderWay) && maps.Equal(b.Former, o.Former) && maps.Equal(b.Attempts, o.Attempts) && maps.EqualFunc(b.Lost, o.Lost, Loss.equal)
}

func (l Loss) equal(o Loss) bool {
	return l.State == o.State && l.Reason == o.Reason && l.Stage == o.Stage && l.At.Equal(o.At)
}
