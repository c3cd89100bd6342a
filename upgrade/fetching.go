package upgrade

import (
	"context"
	"time"

	"github.com/perennial-go/perennial/upgrade/release"
)

// documentsTimeout bounds the reading of index, manifest and what else says
// whether a release may be taken.
const documentsTimeout = 5 * time.Minute

// fetch downloads the executable of m to path. A download may take hours, of a
// mirror that trickles on purpose: this host goes on hearing what it is asked,
// and a hold or a newer request ends the download, which a later one resumes.
func (u *Upgrader) fetch(ctx context.Context, m *release.Manifest, path string) (release.Fetched, error) {
	fetching, cancel := context.WithCancelCause(u.course.in(ctx))
	defer cancel(nil)
	type outcome struct {
		got release.Fetched
		err error
	}
	done := make(chan outcome, 1)
	progress := make(chan release.FetchProgress, 1)
	options := release.FetchOptions{Old: u.executables(), Logger: u.attemptLog(), Progress: func(p release.FetchProgress) {
		select {
		case progress <- p:
		case <-fetching.Done():
		}
	}}
	go func() {
		got, err := u.client.Fetch(fetching, m, path, options)
		done <- outcome{got, err}
	}()
	look := time.NewTicker(u.cfg.HealthEvery)
	defer look.Stop()
	var ended error
	for {
		select {
		case o := <-done:
			if o.err != nil && ended != nil {
				o.err = ended
			}
			return o.got, o.err
		case p := <-progress:
			u.downloaded(p)
		case <-look.C:
			if u.unsettled {
				u.settle(u.cfg.Host.Failing(ctx), time.Now())
			}
			if ended == nil {
				ended = u.giveWay()
			}
			if ended != nil {
				cancel(ended)
			}
		}
	}
}
