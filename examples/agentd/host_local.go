package main

import (
	"context"
	"fmt"

	"github.com/perennial-go/perennial/upgrade"
)

// localHost reaches the agent of a state directory by files, and so also
// while etcd is away.
type localHost struct {
	dir string
	id  string // of the request

	unreadable map[upgrade.Document]string // when status looked last
}

func (h *localHost) name() string { return "the agent on " + h.dir }

func (h *localHost) close() {}

func (h *localHost) status(context.Context) (upgrade.Status, error) {
	r, err := upgrade.Inspect(h.dir)
	if err != nil {
		return upgrade.Status{}, err
	}
	h.unreadable = r.Unreadable
	s := upgrade.Status{Attempt: r.Journal, Hold: r.Hold, Quarantine: r.Quarantine, Retained: r.Retained, Withdrawn: r.Withdrawn}
	if why := r.Unreadable[upgrade.DocumentHold]; why != "" {
		s.Hold = &upgrade.Hold{Reason: why} // as the agent tells it
	}
	for _, slot := range r.Slots {
		if slot.Name() == r.Current {
			s.Running = slot.Ref
		}
	}
	return s, nil
}

func (h *localHost) ask(_ context.Context, r upgrade.Request) (string, error) {
	report, err := upgrade.Inspect(h.dir)
	if err != nil {
		return "", err
	}
	if !report.Running {
		return "", fmt.Errorf("no agent runs on %s: start it, and ask again", h.dir)
	}
	r, err = upgrade.Ask(h.dir, r)
	h.id = r.ID
	return r.ID, err
}

func (h *localHost) follow(ctx context.Context, progress func(upgrade.Status)) (upgrade.Status, error) {
	last, err := upgrade.Follow(ctx, h.dir, h.id, func(a upgrade.Attempt) { progress(upgrade.Status{Attempt: a}) })
	if err != nil {
		return upgrade.Status{Attempt: last}, err
	}
	return h.status(ctx)
}

// settle needs no agent: one that runs reads what is written here.
func (h *localHost) settle(ctx context.Context, r upgrade.Request) (upgrade.Status, error) {
	if _, err := upgrade.Inspect(h.dir); err != nil {
		return upgrade.Status{}, err
	}
	var err error
	switch r.Action {
	case upgrade.ActionHold:
		err = upgrade.SetHold(h.dir, upgrade.Hold{By: r.By, Reason: r.Reason})
	case upgrade.ActionUnhold:
		err = upgrade.ClearHold(h.dir)
	case upgrade.ActionClear:
		_, err = upgrade.ClearQuarantine(h.dir, r.Pin)
	default:
		err = fmt.Errorf("%s is not done by a file", r.Action)
	}
	if err != nil {
		return upgrade.Status{}, err
	}
	return h.status(ctx)
}
