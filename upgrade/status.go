package upgrade

import "time"

// Status is what a host reports of its releases: the last attempt, what
// runs, and the release that failed last. All three are reported together,
// so that after a rollback nobody takes the running release for the wanted
// one.
type Status struct {
	Attempt
	// Running is the release that this process executes.
	Running Ref `json:"running"`
	// Progress is set while a release is downloaded.
	Progress *Progress `json:"progress,omitempty"`
	// LastFailed is the newest entry of the quarantine.
	LastFailed *Quarantined `json:"last_failed,omitempty"`
	// Hold is set while the host is kept out of upgrades.
	Hold *Hold `json:"hold,omitempty"`
	// Answer is how the last request ended that was no attempt.
	Answer *Answer `json:"answer,omitempty"`
}

// Progress counts the bytes of a download.
type Progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
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
	failed := u.quarantine.newest()
	hold, err := ReadHold(u.cfg.StateDir)
	if err != nil {
		hold = &Hold{Reason: err.Error()}
	}
	u.mu.Lock()
	edit(&u.status)
	u.status.Running, u.status.LastFailed, u.status.Hold = u.running.Ref, failed, hold
	status := u.status
	u.mu.Unlock()
	u.cfg.Host.Changed(status)
}

// move takes the attempt to the next state: journal first, then the report.
func (u *Upgrader) move(to State, edit func(*Attempt)) error {
	err := u.journal.move(to, edit)
	last := u.journal.last
	if err != nil && last.State != to {
		return err
	}
	u.log.Info("upgrade", "state", last.State, "from", last.From.Version, "to", last.To.Version, "order", last.OrderID, "reason", last.Reason)
	u.publish(func(s *Status) { s.Attempt, s.Progress = last, nil })
	return err
}

// downloaded reports the progress of a download, at most twice a second.
func (u *Upgrader) downloaded(done, total int64) {
	now := time.Now()
	if done < total && now.Sub(u.progress) < progressEvery {
		return
	}
	u.progress = now
	u.publish(func(s *Status) { s.Progress = &Progress{done, total} })
}
