package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/perennial-go/perennial/plugin/pluginpb"
)

// launcher starts instances.
type launcher struct {
	cfg   *Config
	depot *depot
	rooms *rooms
}

// launch starts a process of b and returns once it has said that it is
// healthy. It takes at most Config.StartTimeout; on failure nothing is left.
func (l *launcher) launch(ctx context.Context, b *bundle, log *slog.Logger, started func(pid int)) (*instance, error) {
	if err := l.depot.check(b.manifest.SHA256); err != nil {
		if err := l.depot.deposit(b.source, b.manifest.SHA256); err != nil {
			return nil, err
		}
	}
	i := newInstance(ctx, b, log)
	limited, cancel := context.WithTimeout(ctx, l.cfg.StartTimeout)
	defer cancel()
	err := l.bringUp(limited, i, started)
	if err == nil {
		return i, nil
	}
	ended := ctx.Err() == nil && i.brokeOff(err)
	late := ctx.Err() == nil && limited.Err() != nil
	i.discard() // joins the reader of the log
	switch {
	case errors.Is(err, errRefused):
	case late:
		err = fmt.Errorf("it was not ready within %s%s: %w", l.cfg.StartTimeout, i.said.lastWords(), err)
	case ended:
		err = fmt.Errorf("it ended before it was ready (%s%s)", i.proc.outcome(), i.said.lastWords())
	}
	return nil, err
}

// brokeOff reports whether err comes from the end of the process, which shows
// on its pipes and connection a moment before it can be reaped.
func (i *instance) brokeOff(err error) bool {
	if i.proc == nil || i.proc.ID() == "" || i.link != nil && status.Code(err) != codes.Unavailable {
		return false
	}
	wait := time.NewTimer(pipeGrace)
	defer wait.Stop()
	select {
	case <-i.proc.exited:
		return true
	case <-wait.C:
		return false
	}
}

func (l *launcher) bringUp(ctx context.Context, i *instance, started func(pid int)) error {
	var err error
	if i.room, err = l.rooms.open(i.bundle.manifest.Name); err != nil {
		return err
	}
	i.proc, err = newProcess(l.depot.path(i.bundle.manifest.SHA256), i.room.dir)
	if err != nil {
		return err
	}
	i.proc.cmd.Env = append(i.proc.cmd.Env, pluginpb.OrphanKey+"="+strconv.Itoa(orphanSeconds(l.cfg.OrphanAfter)))
	// Nothing in go-plugin has a deadline that holds on a stopped process;
	// the death of the process is what ends every wait.
	release := context.AfterFunc(ctx, i.proc.kill)
	defer release()
	i.link, err = l.link(ctx, i, &announced{hold: newHold(i.proc), started: func(pid int) {
		i.room.occupy(pid)
		started(pid)
	}})
	if err != nil {
		return err
	}
	return l.introduce(ctx, i)
}

// announced tells of the process as soon as there is one.
type announced struct {
	*hold
	started func(pid int)
}

// Start implements runner.Runner.
func (a *announced) Start(ctx context.Context) error {
	if err := a.hold.Start(ctx); err != nil {
		return err
	}
	a.started(a.pid())
	return nil
}

// introduce checks that the process is what the manifest says, attaches to it
// and starts it.
func (l *launcher) introduce(ctx context.Context, i *instance) error {
	if err := i.identify(ctx); err != nil {
		return err
	}
	if _, err := i.link.attach(ctx, l.cfg.HostVersion); err != nil {
		return fmt.Errorf("attach: %w", plain(err))
	}
	if _, err := i.link.rpc.Start(ctx, &pluginpb.StartRequest{Settings: i.bundle.settings}); err != nil {
		return fmt.Errorf("start: %w", plain(err))
	}
	problem, err := i.health(ctx)
	if err != nil {
		return err
	}
	if problem != "" {
		return fmt.Errorf("it is not healthy after its start: %s", problem)
	}
	return nil
}

// identify checks that the process is what the manifest says.
func (i *instance) identify(ctx context.Context) error {
	m := &i.bundle.manifest
	info, err := i.link.rpc.Info(ctx, &pluginpb.InfoRequest{})
	if err != nil {
		return fmt.Errorf("info: %w", plain(err))
	}
	if info.GetName() != m.Name || info.GetVersion() != m.Version {
		return fmt.Errorf("%w: the manifest says %s %s, the executable says %q %q; correct the manifest or rebuild the executable", errRefused, m.Name, m.Version, info.GetName(), info.GetVersion())
	}
	for _, c := range m.Capabilities {
		if !slices.Contains(info.GetCapabilities(), c) {
			return fmt.Errorf("%w: the manifest promises the capability %q, the executable has %q", errRefused, c, info.GetCapabilities())
		}
	}
	return nil
}

// orphanSeconds is d as a plugin is told: whole seconds, at least one.
func orphanSeconds(d time.Duration) int {
	return int(max(d.Round(time.Second), time.Second) / time.Second)
}
