package agent

import (
	"context"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/backoff"
)

// configSchema is the JSON Schema of the documents that this agent takes. It
// lies in etcd so that whoever publishes one can be told before any agent sees
// it.
type configSchema struct {
	data   []byte // nil = none
	digest string
	due    chan struct{} // tells that it may be missing in etcd
}

// newConfigSchema describes what settings take. An agent whose type cannot be
// described works without: its documents are checked by itself alone.
func newConfigSchema(settings Settings, log *slog.Logger, sections ...config.Section) *configSchema {
	s := &configSchema{due: make(chan struct{}, 1)}
	described, ok := settings.(interface {
		Schema(sections ...config.Section) ([]byte, error)
	})
	if !ok {
		return s
	}
	data, err := described.Schema(sections...)
	if err != nil {
		log.Warn("the configuration has no schema: documents are published unchecked", "error", err)
		return s
	}
	s.data, s.digest = data, config.SchemaDigest(data)
	return s
}

// registered is called after each registration: etcd may have been emptied
// before it.
func (s *configSchema) registered() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// publish writes the schema whenever it may be missing, until ctx ends. It is
// no part of the registration: an agent that may not write it is a member of
// the fleet all the same.
func (s *configSchema) publish(ctx context.Context, client *clientv3.Client, root string, log *slog.Logger) error {
	if s.data == nil {
		return nil
	}
	retry := backoff.Backoff{Max: time.Minute}
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.due:
		}
		limited, cancel := context.WithTimeout(ctx, writeTimeout)
		_, err := config.PublishSchema(limited, client, root, s.data)
		cancel()
		if err == nil {
			failing = ""
			retry.Reset()
			continue
		}
		if ctx.Err() == nil && failing != err.Error() {
			failing = err.Error()
			log.Warn("schema of the configuration not published: documents are published unchecked", "error", err)
		}
		s.registered()
		if retry.Wait(ctx) != nil {
			return nil
		}
	}
}
