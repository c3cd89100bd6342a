package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/perennial-go/perennial/agent"
	"github.com/perennial-go/perennial/upgrade"
)

// registryHost reaches an agent by orders in etcd.
type registryHost struct {
	etcd      *etcdFlags
	directory *agent.Directory
	id        string
	order     agent.Order
}

func (h *registryHost) name() string { return h.id }

func (h *registryHost) close() { _ = h.directory.Close() }

func (h *registryHost) status(ctx context.Context) (upgrade.Status, error) {
	e, err := h.entry(ctx)
	if err != nil {
		return upgrade.Status{}, err
	}
	return upgradeOf(e), nil
}

// entry is what the registry holds of the agent; an error if any of it cannot
// be read.
func (h *registryHost) entry(ctx context.Context) (e agent.Entry, err error) {
	err = h.etcd.ask(ctx, func(ctx context.Context) (err error) {
		e, err = h.directory.Get(ctx, h.id)
		return err
	})
	if err == nil && e.Error != "" {
		err = errors.New(e.Error)
	}
	return e, err
}

// upgradeOf is how the upgrades of an agent stand.
func upgradeOf(e agent.Entry) upgrade.Status {
	if e.Status == nil {
		e.Status = &agent.Status{}
	}
	s := e.Status.Upgrade
	// The registration is written first, and may be of the next release.
	if s.Running.Binary != e.BinaryDigest {
		s.Yanked, s.Provenance = "", nil
	}
	s.Running = upgrade.Ref{Version: e.Version, Manifest: e.ManifestDigest, Binary: e.BinaryDigest}
	return s
}

func (h *registryHost) ask(ctx context.Context, r upgrade.Request) (string, error) {
	err := h.etcd.ask(ctx, func(ctx context.Context) (err error) {
		h.order, err = h.directory.Order(ctx, h.id, r)
		return err
	})
	return h.order.ID, err
}

func (h *registryHost) follow(ctx context.Context, progress func(upgrade.Status)) (upgrade.Status, error) {
	return h.directory.Follow(ctx, h.order, h.id, progress)
}

func (h *registryHost) settle(ctx context.Context, r upgrade.Request) (upgrade.Status, error) {
	id, err := h.ask(ctx, r)
	if err != nil {
		return upgrade.Status{}, err
	}
	s, err := h.follow(ctx, func(upgrade.Status) {})
	switch {
	case err != nil:
		return s, fmt.Errorf("%s has not answered, order %s stands: %w", h.id, id, err)
	case s.Answer != nil && s.Answer.Error != "":
		return s, fmt.Errorf("%s refused: %s", h.id, s.Answer.Error)
	}
	return s, nil
}
