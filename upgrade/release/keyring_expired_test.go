package release

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPublisherIsToldThatTheKeyringHasExpired(t *testing.T) {
	t.Parallel()
	r := newRooted(t)
	r.mustPublish(1, "1.0.0")
	r.clock = r.clock.Add(366 * 24 * time.Hour)
	before := string(r.read(r.path(indexPath)))
	for name, repo := range map[string]*Repository{"roots": r.publisher(1), "no roots": r.repository(1)} {
		for what, do := range map[string]func(context.Context) error{
			"publish": func(ctx context.Context) error { _, err := repo.Publish(ctx, r.release("1.1.0")); return err },
			"yank":    func(ctx context.Context) error { return repo.Yank(ctx, "agentd", "1.0.0", "broken") },
			"refresh": func(ctx context.Context) error { return repo.Refresh(ctx, "agentd") },
		} {
			if err := do(t.Context()); !errors.Is(err, ErrExpired) || !strings.Contains(err.Error(), "keys renew") {
				t.Errorf("%s with %s: %v", what, name, err)
			}
		}
	}
	if string(r.read(r.path(indexPath))) != before {
		t.Error("the index was written")
	}
	r.roll(root1, root2)
	r.mustPublish(1, "1.1.0")
	r.mustTake("1.1.0")
}
