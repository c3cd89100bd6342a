package plugin

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// adoptions is how many plugins are taken over at a time.
const adoptions = 8

// errForeign means that a record is not about a process of this state
// directory, which so is left alone.
var errForeign = errors.New("not a plugin of this state directory")

// adopted is a plugin that an earlier host has left.
type adopted struct {
	record   *record
	instance *instance
	problem  string // what it says of its health
}

// adoptAll goes on with the plugins that earlier hosts have left running, and
// ends what else they left.
func (m *Manager) adoptAll(ctx context.Context) []adopted {
	names, err := m.launcher.records.list()
	if err != nil {
		m.cfg.Logger.Warn("plugins of an earlier host are not known", "error", err)
	}
	var mu sync.Mutex
	var all []adopted
	var each errgroup.Group
	each.SetLimit(adoptions)
	for _, name := range names {
		each.Go(func() error {
			if a, ok := m.adopt(ctx, name); ok {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, a)
			}
			return nil
		})
	}
	_ = each.Wait()
	keep := map[string]bool{}
	for _, a := range all {
		keep[a.instance.room.note] = true
	}
	m.rooms.sweep(keep)
	m.launcher.groups.sweep()
	return all
}

func (m *Manager) adopt(ctx context.Context, name string) (adopted, bool) {
	log := m.cfg.Logger.With("plugin", name)
	r, err := m.launcher.records.read(name)
	a := adopted{record: r}
	if err == nil {
		i := m.launcher.instance(ctx, nil, log)
		if a.problem, err = m.launcher.adopt(ctx, i, r); err == nil {
			a.instance = i
			m.launcher.records.adopted(r)
			log.Info("plugin goes on under this host", "plugin_version", r.Version, "pid", r.PID)
			return a, true
		}
	}
	log.Warn("plugin of an earlier host is not taken over", "error", err)
	if err := m.launcher.records.drop(name); err != nil {
		log.Warn("record of a plugin could not be removed", "error", err)
	}
	return a, false
}

// adopt makes i the instance that r tells of, if everything that r says can be
// shown to be so. A process that is this host's for certain and cannot be used
// is killed; any other is left alone.
func (l *launcher) adopt(ctx context.Context, i *instance, r *record) (problem string, err error) {
	if err := l.owns(r); err != nil {
		return "", err
	}
	i.room = room{dir: r.home(), note: r.Room, log: l.cfg.Logger}
	if i.said, err = openOutput(i.room.dir, l.logs.file(r.Name), i.log); err != nil {
		endStrays(i.room.dir) // it could not write for ever
		return "", err
	}
	b, unusable := l.recorded(r)
	if unusable == nil {
		// The depot's copy is what a restart would run.
		unusable = l.depot.check(r.Digest)
	}
	// What follows is up to the process; what came before, to the disk.
	ctx, cancel := context.WithTimeout(ctx, l.cfg.HealthTimeout)
	defer cancel()
	cfg := processConfig{name: r.Name, dir: i.room.dir, groups: l.groups, out: i.said, log: i.log}
	if i.bundle = b; b != nil {
		cfg.limits = b.manifest.Limits
	}
	if i.proc, err = adoptProcess(r.PID, r.Started, cfg); err != nil {
		i.said.finish()
		return "", err
	}
	release := context.AfterFunc(ctx, i.proc.kill)
	defer release()
	if err = unusable; err == nil {
		problem, err = l.resume(ctx, i, r)
	}
	if err != nil {
		i.discard()
		return "", fmt.Errorf("it was killed: %w", err)
	}
	return problem, nil
}

// owns checks that r is about a process of this state directory.
func (l *launcher) owns(r *record) error {
	if r.Charge != l.rooms.charge {
		return fmt.Errorf("%w: the record was written in another: want %s, found %s", errForeign, l.rooms.charge, r.Charge)
	}
	if filepath.Dir(r.Room) != l.rooms.dir {
		return fmt.Errorf("%w: room: want one in %s, found %s", errForeign, l.rooms.dir, r.Room)
	}
	if err := l.rooms.tenanted(r.Room, r.home()); err != nil {
		return fmt.Errorf("%w: room: %w", errForeign, err)
	}
	if !alive(r.PID, r.Started) {
		return fmt.Errorf("its process, %d, has ended", r.PID)
	}
	if !ours(r.PID, r.Started, r.home()) {
		return fmt.Errorf("%w: process %d was not started for %s", errForeign, r.PID, r.home())
	}
	return nil
}

// resume checks the rest of r and connects i.
func (l *launcher) resume(ctx context.Context, i *instance, r *record) (problem string, err error) {
	image, err := imageDigest(r.PID, l.depot.path(r.Digest), r.Digest)
	if err == nil && image != r.Image {
		err = fmt.Errorf("%w: what process %d executes: want sha256 %s, found %s", ErrDigest, r.PID, r.Image, image)
	}
	if err != nil {
		return "", err
	}
	if err := i.bundle.manifest.fits(l.cfg.HostVersion); err != nil {
		return "", err
	}
	if i.link, err = relink(ctx, i.proc, r); err != nil {
		return "", err
	}
	if err := i.identify(ctx); err != nil {
		return "", err
	}
	started, err := i.link.attach(ctx, l.cfg.HostVersion)
	if err != nil {
		return "", fmt.Errorf("attach: %w", plain(err))
	}
	if !started {
		return "", errors.New("it has not been started yet")
	}
	if problem, err = i.health(ctx); err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if err := i.room.occupy(l.rooms.charge); err != nil {
		// That one is dead to whoever comes while this one drains, who so ends
		// the plugin; killing it here would be no better.
		i.log.Warn("directory of a plugin still names its earlier host", "error", err)
	}
	return problem, nil
}

// recorded is the bundle that the process of r was started from.
func (l *launcher) recorded(r *record) (*bundle, error) {
	if r.Protocol != pluginpb.ProtocolVersion {
		return nil, fmt.Errorf("protocol: want %d, found %d", pluginpb.ProtocolVersion, r.Protocol)
	}
	b := &bundle{text: []byte(r.Manifest), source: filepath.Join(l.cfg.Dir, ExecutableName(r.Name))}
	if r.Signature != "" {
		b.signature = []byte(r.Signature)
	}
	if err := l.cfg.authenticate(b); errors.Is(err, ErrUntrusted) {
		return nil, fmt.Errorf("recorded manifest: %w", err)
	}
	if err := b.parse(); err != nil {
		return nil, fmt.Errorf("recorded manifest: %w", err)
	}
	m := b.manifest
	if m.Name != r.Name || m.Version != r.Version || m.SHA256 != r.Digest {
		return nil, fmt.Errorf("the record says %s %s (sha256 %.12s), the manifest in it %s %s (sha256 %.12s)", r.Name, r.Version, r.Digest, m.Name, m.Version, m.SHA256)
	}
	return b, nil
}

// authenticate checks the signature of a manifest that is read.
func (c *Config) authenticate(b *bundle) (err error) {
	switch {
	case c.Verify == nil:
	case b.signature != nil:
		b.signed, err = c.Verify(b.text, b.signature)
	case c.RequireSigned:
		err = fmt.Errorf("%w: it is not signed, and this host wants signed plugins", ErrUntrusted)
	}
	return err
}
