package rollout

import (
	"encoding/json"
	"strconv"
	"time"
)

// scan reads what encode writes: members in their order, without spaces. On
// anything else it is bad, and what it read means nothing.
type scan struct {
	data []byte
	at   int
	bad  bool
}

// moving reads the rest of a Plan, from State on, and the end of the object.
func (s *scan) moving(p *Plan) {
	s.must("state")
	p.State = State(s.text())
	p.Why = ""
	if s.member("why") {
		p.Why = s.text()
	}
	s.must("since")
	p.Since = s.time()
	s.must("instruction")
	p.Instruction = s.instruction()
	s.must("stage")
	p.Stage = s.int()
	p.StageSince, p.SoakSince, p.Promoted = s.timeOf("stage_since"), s.timeOf("soak_since"), 0
	if s.member("promoted") {
		p.Promoted = s.int()
	}
	s.must("cursor")
	p.Cursor = s.cursor()
	s.must("seq")
	p.Seq = s.number()
	p.History = ""
	if s.member("history") {
		p.History = s.text()
	}
	s.expect('}')
}

func (s *scan) instruction() (i Instruction) {
	s.expect('{')
	s.must("number")
	i.Number = s.int()
	s.must("action")
	i.Action = Action(s.text())
	if s.member("probation_seconds") {
		seconds, err := strconv.ParseFloat(string(s.digits()), 64)
		s.bad = s.bad || err != nil
		i.Probation = Seconds(seconds)
	}
	s.expect('}')
	return i
}

func (s *scan) cursor() (c Cursor) {
	s.expect('{')
	s.must("as_of")
	c.AsOf = s.number()
	if s.member("marks") {
		c.Marks = list(s, s.mark)
	}
	if s.member("late") {
		s.expect('{')
		if s.member("as_of") {
			c.Late.AsOf = s.number()
		}
		if s.member("mark") {
			c.Late.Mark = s.mark()
		}
		s.expect('}')
	}
	if s.member("unsure") {
		c.Unsure = s.true()
	}
	if s.member("steps") {
		c.Steps = list(s, s.step)
	}
	s.expect('}')
	return c
}

func (s *scan) mark() (m Mark) {
	s.expect('{')
	if s.member("open") {
		m.Open = s.true()
	}
	s.must("rank")
	s.bad = m.Rank.UnmarshalText(s.plain()) != nil || s.bad
	s.expect('}')
	return m
}

func (s *scan) step() (t Step) {
	s.expect('{')
	s.must("at")
	t.At = s.time()
	s.must("agents")
	t.Agents = s.int()
	s.expect('}')
	return t
}

// list reads an array that is not empty.
func list[T any](s *scan, item func() T) []T {
	all := make([]T, 0, 4)
	s.expect('[')
	for all = append(all, item()); !s.bad && s.skip(","); {
		all = append(all, item())
	}
	s.expect(']')
	return all
}

// skip goes past what is next, if it is that.
func (s *scan) skip(next string) bool {
	if s.bad || len(s.data)-s.at < len(next) || string(s.data[s.at:s.at+len(next)]) != next {
		return false
	}
	s.at += len(next)
	return true
}

// true is what a flag that is not left out is.
func (s *scan) true() bool {
	s.bad = !s.skip("true") || s.bad
	return !s.bad
}

func (s *scan) expect(c byte) {
	if s.bad || s.at >= len(s.data) || s.data[s.at] != c {
		s.bad = true
		return
	}
	s.at++
}

// member goes past a name and its colon, if it is the next.
func (s *scan) member(name string) bool {
	if s.bad {
		return false
	}
	from := s.at
	first := s.data[from-1] == '{' || s.data[from-1] == ',' // the comma is behind it
	if (first || s.skip(",")) && s.skip(`"`) && s.skip(name) && s.skip(`":`) {
		return true
	}
	s.at = from
	return false
}

func (s *scan) must(name string) { s.bad = !s.member(name) || s.bad }

// plain is a text of ASCII without escapes.
func (s *scan) plain() []byte {
	s.expect('"')
	from := s.at
	for ; s.at < len(s.data); s.at++ {
		switch c := s.data[s.at]; {
		case c == '"':
			s.at++
			return s.data[from : s.at-1]
		case c < ' ' || c == '\\' || c >= 0x80:
			s.bad = true
			return nil
		}
	}
	s.bad = true
	return nil
}

func (s *scan) text() (t string) {
	from, bad := s.at, s.bad
	if plain := s.plain(); !s.bad || bad {
		return string(plain)
	}
	s.bad, s.at = false, from
	s.expect('"')
	for ; s.at < len(s.data) && s.data[s.at] != '"'; s.at++ {
		if s.data[s.at] == '\\' {
			s.at++
		}
	}
	s.expect('"')
	s.bad = s.bad || json.Unmarshal(s.data[from:s.at], &t) != nil
	return t
}

func (s *scan) time() (t time.Time) {
	from := s.at
	if s.plain(); !s.bad {
		s.bad = t.UnmarshalJSON(s.data[from:s.at]) != nil
	}
	return t
}

// digits is a number without an exponent.
func (s *scan) digits() []byte {
	from := s.at
	s.skip("-")
	whole := s.at
	for s.at < len(s.data) && (s.data[s.at] >= '0' && s.data[s.at] <= '9' || s.data[s.at] == '.' && s.at > whole) {
		s.at++
	}
	d := s.data[from:s.at]
	s.bad = s.bad || s.at == whole || s.data[s.at-1] == '.' || s.data[whole] == '0' && s.at > whole+1 && s.data[whole+1] != '.'
	return d
}

func (s *scan) number() int64 {
	n, err := strconv.ParseInt(string(s.digits()), 10, 64)
	s.bad = s.bad || err != nil
	return n
}

func (s *scan) int() int {
	n := s.number()
	s.bad = s.bad || int64(int(n)) != n
	return int(n)
}

// timeOf is a member that is left out where it is zero.
func (s *scan) timeOf(name string) (t time.Time) {
	if s.member(name) {
		t = s.time()
	}
	return t
}
