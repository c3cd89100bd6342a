package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
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
	logs  *logs
	// records says what this host's successors can go on with.
	records *records
	// groups is nil where there are no cgroups.
	groups *cgroups
	turns  chan struct{}
}

// launch starts a process of b and returns once it has said that it is
// healthy. It takes at most Config.StartTimeout; on failure nothing is left.
func (l *launcher) launch(ctx context.Context, b *bundle, log *slog.Logger, started func(pid int)) (*instance, error) {
	exe, err := l.executable(b)
	if err != nil {
		return nil, err
	}
	i := l.instance(ctx, b, log)
	limited, cancel := context.WithTimeout(ctx, l.cfg.StartTimeout)
	defer cancel()
	err = l.bringUp(limited, i, exe, started)
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
	wait := time.NewTimer(strayGrace)
	defer wait.Stop()
	select {
	case <-i.proc.exited:
		return i.proc.byItself() // go-plugin kills what it does not understand
	case <-wait.C:
		return false
	}
}

func (l *launcher) bringUp(ctx context.Context, i *instance, exe *os.File, started func(pid int)) error {
	name := i.bundle.manifest.Name
	var err error
	if i.room, err = l.rooms.open(name); err != nil {
		return errors.Join(err, exe.Close())
	}
	if i.said, err = createOutput(i.room.dir, l.logs.file(name), i.log); err != nil {
		return errors.Join(err, exe.Close())
	}
	i.proc = newProcess(processConfig{
		exe: exe, name: name, dir: i.room.dir, out: i.said, log: i.log,
		limits: i.bundle.manifest.Limits, groups: l.groups,
		env: []string{pluginpb.OrphanKey + "=" + strconv.Itoa(orphanSeconds(l.cfg.OrphanAfter))},
	})
	// Nothing in go-plugin has a deadline that holds on a stopped process;
	// the death of the process is what ends every wait.
	release := context.AfterFunc(ctx, i.proc.kill)
	defer release()
	i.link, err = l.link(ctx, i, &announced{hold: newHold(i.proc), started: started})
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

// launchInTurn is launch once it is this one's turn: a start takes processor
// time here and in the plugin, and many at once would all be late.
func (l *launcher) launchInTurn(ctx context.Context, b *bundle, log *slog.Logger, started func(pid int)) (*instance, error) {
	select {
	case l.turns <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-l.turns }()
	return l.launch(ctx, b, log, started)
}

// maxStarts is how many plugins start at the same time. A start mostly waits,
// and one that hangs is not to hold the others up.
func maxStarts() int { return max(8, 2*runtime.GOMAXPROCS(0)) }
