package agent

import (
	"errors"
	"testing"

	"github.com/perennial-go/perennial/config"
	"github.com/perennial-go/perennial/internal/waittest"
)

// TestSchemaIsInEtcdWhereverTheAgentIs also after etcd has lost everything:
// nobody could be told that a document is bad before the agents see it.
func TestSchemaIsInEtcdWhereverTheAgentIs(t *testing.T) {
	f := newFleet(t)
	m := f.member("a1").start()
	there := func() error {
		e := m.registered()
		s, err := config.ReadSchema(m.ctx(), f.etcd.Client(t), "", e.ConfigSchema)
		if err != nil {
			return err
		}
		r, err := f.etcd.Client(t).Get(m.ctx(), "/agents/config-schema/"+s.Digest)
		if err == nil && (len(r.Kvs) != 1 || r.Kvs[0].Lease != 0) {
			err = errors.New("it hangs on a lease: it must outlive the agent")
		}
		return err
	}
	waittest.Nil(t, "the schema is published", there)
	f.etcd.Wipe()
	waittest.Nil(t, "it is published again", there)
}
