package audit

import (
	"cmp"
	"fmt"
	"slices"
)

// position is a place in a file: line and column from 1, in characters, and
// the byte that it begins at.
type position struct {
	line, column int
	offset       int // negative if it is not known
	// why, without an offset, says why the text cannot be replaced.
	why string
}

// Finding is one place where a rule is broken.
type Finding struct {
	Rule  string `json:"rule"`
	Level Level  `json:"level"`
	// Path is with slashes, beginning as the path that was given.
	Path string `json:"path"`
	// Line and Column count from 1, the latter in characters; 0 if the whole
	// file or tree is meant.
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
	// Suppressed is the reason that a comment in the file gives for it. Such
	// a finding does not count.
	Suppressed string `json:"suppressed,omitempty"`
	// Fix is what mends it, if that is known.
	Fix *Fix `json:"fix,omitempty"`
	// Unfixed says why --fix could not mend it.
	Unfixed string `json:"unfixed,omitempty"`

	// edit is what --fix would write once it is resolved.
	edit *edit
	// byHand says why there is no edit of what is pinned else.
	byHand string
	// same is what several findings have of which one is to be told: the first
	// that stands.
	same *repeat
}

// Fix is a replacement of text within one line.
type Fix struct {
	Old string `json:"old"`
	New string `json:"new"`
	// Applied tells that the file has it.
	Applied bool `json:"applied"`
}

// Unread is a file, or a part of the tree, that was left out by a limit or by
// what it is, or that could not be read.
type Unread struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Report is the outcome of an audit.
type Report struct {
	Schema int `json:"schema"` // 1
	// Files is how many files were judged.
	Files int `json:"files"`
	// Findings are by path and line.
	Findings []Finding `json:"findings"`
	// Unread are symbolic links and what else was passed over by rule, such as
	// deeper directories than an audit descends to, and what Incomplete is of.
	Unread []Unread `json:"unread,omitempty"`

	failed []error
}

// leave adds what is passed over.
func (r *Report) leave(shown, why string) { r.Unread = append(r.Unread, Unread{shown, why}) }

// fail adds what would be judged, and could not be read.
func (r *Report) fail(shown string, err error) {
	r.leave(shown, err.Error())
	r.failed = append(r.failed, fmt.Errorf("%s could not be read: %w", shown, err))
}

// Incomplete is the error of the first file or directory that could not be
// read, so that what is in it is not known; nil if there was none.
func (r *Report) Incomplete() error {
	switch len(r.failed) {
	case 0:
		return nil
	case 1:
		return r.failed[0]
	}
	return fmt.Errorf("%w, and %d more", r.failed[0], len(r.failed)-1)
}

// Count returns how many findings are at least as bad as level and not
// suppressed or fixed.
func (r *Report) Count(level Level) int {
	n := 0
	for _, f := range r.Findings {
		if f.Open() && level.Covers(f.Level) {
			n++
		}
	}
	return n
}

// Open reports whether the finding stands: neither suppressed nor fixed.
func (f *Finding) Open() bool {
	return f.Suppressed == "" && (f.Fix == nil || !f.Fix.Applied)
}

// settle sorts the findings and drops those that several ways led to.
func (r *Report) settle() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Message, b.Message))
	})
	r.Findings = slices.CompactFunc(r.Findings, func(a, b Finding) bool {
		return a.Path == b.Path && a.Line == b.Line && a.Column == b.Column && a.Rule == b.Rule && a.Message == b.Message
	})
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
}
