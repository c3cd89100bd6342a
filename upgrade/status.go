package upgrade

import (
	"log/slog"
	"slices"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// Status is what a host reports of its releases: the last attempt, what
// runs, and the release that failed last. All three are reported together,
// so that after a rollback nobody takes the running release for the wanted
// one.
type Status struct {
	Attempt
	// Program is the name that releases of this program are signed for. Empty
	// in what a release wrote that does not tell it.
	Program string `json:"program,omitempty"`
	// Running is the release that this process executes.
	Running Ref `json:"running"`
	// Progress is set while a release is downloaded.
	Progress *Progress `json:"progress,omitempty"`
	// LastFailed is the newest entry of the quarantine.
	LastFailed *Quarantined `json:"last_failed,omitempty"`
	// Quarantine holds its newest 10 entries, the newest last; those whose
	// time is over among them.
	Quarantine []Quarantined `json:"quarantine,omitempty"`
	// Retained are the releases that a rollback can go to, the one that ran
	// last first.
	Retained []Ref `json:"retained,omitempty"`
	// Staged is the release that waits for an upgrade to it, which then needs no
	// download, nil if none does.
	Staged *Ref `json:"staged,omitempty"`
	// Hold is set while the host is kept out of upgrades.
	Hold *Hold `json:"hold,omitempty"`
	// Yanked is why the release that runs was withdrawn by its publisher, as
	// the last look at the index found, perhaps before this start; empty while
	// it is offered.
	Yanked string `json:"yanked,omitempty"`
	// Withdrawn are those of Running, Retained and Staged that are known to be
	// withdrawn.
	Withdrawn []Withdrawn `json:"withdrawn,omitempty"`
	// Provenance says where the release that runs comes from; nil until it has
	// a slot.
	Provenance *Provenance `json:"provenance,omitempty"`
	// Answer is how the last request ended that was no attempt.
	Answer *Answer `json:"answer,omitempty"`
}

// Progress counts the bytes of a download.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Form is what is downloaded, as in release.FetchProgress.
	Form string `json:"form,omitempty"`
	// Passed says why a smaller form is not; usually empty.
	Passed string `json:"passed,omitempty"`
}

// progressEvery spaces the reports of a download.
const progressEvery = 500 * time.Millisecond

// Status returns the present status.
func (u *Upgrader) Status() Status {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// publish changes the status and tells the host.
func (u *Upgrader) publish(edit func(*Status)) {
	// Before what it stands for is read: a later change is seen as one.
	u.seen = outsideOf(u.cfg.StateDir)
	there := u.standing()
	u.mu.Lock()
	edit(&u.status)
	u.status.Program = there.Program
	u.status.Running, u.status.LastFailed, u.status.Quarantine = there.Running, there.LastFailed, there.Quarantine
	u.status.Retained, u.status.Hold, u.status.Provenance = there.Retained, there.Hold, there.Provenance
	u.status.Withdrawn, u.status.Staged = there.Withdrawn, there.Staged
	status := u.status
	u.mu.Unlock()
	u.cfg.Host.Changed(status)
}

// standing reads what the status tells besides attempt and answer. What
// cannot be read is missing from it: the report must not stop for it.
func (u *Upgrader) standing() Status {
	s := Status{Program: u.cfg.Name, Running: u.running.Ref, Provenance: u.provenance()}
	failed, err := u.quarantine.entries()
	if err != nil {
		u.log.Warn("quarantine is not readable", "error", err)
	}
	if s.Quarantine = failed[max(0, len(failed)-quarantineTold):]; len(failed) > 0 {
		s.LastFailed = &failed[len(failed)-1]
	}
	if s.Hold, err = ReadHold(u.cfg.StateDir); err != nil {
		s.Hold = &Hold{Reason: err.Error()}
	}
	if s.Retained, err = u.slots.returnable(u.running.Ref); err != nil {
		u.log.Warn("slots are not readable", "error", err)
	}
	if s.Staged, err = u.slots.waiting(); err != nil {
		u.log.Warn("slots are not readable", "error", err)
	}
	here := append(slices.Clone(s.Retained), s.Running)
	if s.Staged != nil {
		here = append(here, *s.Staged)
	}
	s.Withdrawn = present(u.known, here...)
	return s
}

// move takes the attempt to the next state: journal first, then the report.
func (u *Upgrader) move(to State, edit func(*Attempt)) error {
	moved, err := u.record(to, edit)
	if moved {
		u.report()
	}
	return err
}

// record is move without the report, which reads much and can follow.
func (u *Upgrader) record(to State, edit func(*Attempt)) (moved bool, err error) {
	err = u.journal.move(to, edit)
	u.counted.Store(u.journal.totals)
	last := u.journal.last
	if err != nil && last.State != to {
		return false, err
	}
	u.follow(last)
	u.attemptLog().Info("upgrade", "state", last.State, "from", last.From.Version, "reason", last.Reason)
	return true, err
}

// attemptLog is the log of what belongs to the attempt of the journal.
func (u *Upgrader) attemptLog() *slog.Logger {
	last := u.journal.last
	return u.log.With("attempt", last.id(), "release", last.To.Version)
}

// report publishes the attempt as it stands.
func (u *Upgrader) report() {
	last := u.journal.last
	u.publish(func(s *Status) { s.Attempt, s.Progress = last, nil })
}

// downloaded reports the progress of a download, at most twice a second.
func (u *Upgrader) downloaded(p release.FetchProgress) {
	now := time.Now()
	if p.Done < p.Total && now.Sub(u.progress) < progressEvery {
		return
	}
	u.progress = now
	progress := Progress{Done: p.Done, Total: p.Total, Form: p.Form, Passed: printable(p.Passed, reasonBytes)}
	u.publish(func(s *Status) { s.Progress = &progress })
}
