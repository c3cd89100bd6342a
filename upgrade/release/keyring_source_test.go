package release

import (
	"context"
	"io"
	"sync"
)

// changingSource changes the repository right before the index is read for
// the first time.
type changingSource struct {
	Source
	once   sync.Once
	change func()
}

func (s *changingSource) Open(ctx context.Context, path string, offset int64) (io.ReadCloser, int64, error) {
	if path == indexPath {
		s.once.Do(s.change)
	}
	return s.Source.Open(ctx, path, offset)
}
