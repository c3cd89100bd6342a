package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bounds of one transaction. etcd takes 128 compares or operations, and 1.5 MiB.
const (
	maxOps      = 120
	maxTxnBytes = 512 << 10
	// parallel is how many transactions of one caller are under way.
	parallel = 4
	// callTimeout bounds a call to etcd.
	callTimeout = 5 * time.Second
)

// errRefused: what a change compares is not so.
var errRefused = errors.New("etcd refused a write: what it was about has changed")

// change is what is written together, if all that it compares is so.
type change struct {
	compare []clientv3.Cmp
	ops     []clientv3.Op
	bytes   int // of what is put, roughly
}

func (c *change) put(key, value string) {
	c.ops = append(c.ops, clientv3.OpPut(key, value))
	c.bytes += len(key) + len(value)
}

func (c *change) remove(key string, opts ...clientv3.OpOption) {
	c.ops = append(c.ops, clientv3.OpDelete(key, opts...))
}

func (c *change) absent(key string) {
	c.compare = append(c.compare, clientv3.Compare(clientv3.CreateRevision(key), "=", 0))
}

func (c *change) unchanged(key string, revision int64) {
	c.compare = append(c.compare, clientv3.Compare(clientv3.ModRevision(key), "=", revision))
}

// verdict is what became of a change.
type verdict struct {
	revision int64
	err      error // errRefused, or etcd's: then it may have happened
}

// committer writes changes, many in one transaction.
type committer struct {
	client *clientv3.Client
	guard  []clientv3.Cmp // of every transaction
}

// commit writes each of the changes that can be, and says what became of each.
// No two may be about the same key.
func (c *committer) commit(ctx context.Context, changes []change) []verdict {
	verdicts := make([]verdict, len(changes))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for from := 0; from < len(changes); {
		to := c.fit(changes, from)
		batch, answers := changes[from:to], verdicts[from:to]
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c.batch(ctx, batch, answers)
		})
		from = to
	}
	wg.Wait()
	return verdicts
}

// fit returns the end of what fits into one transaction, at least one change.
func (c *committer) fit(changes []change, from int) int {
	compares, ops, bytes := len(c.guard), 0, 0
	for i := from; i < len(changes); i++ {
		compares += len(changes[i].compare)
		ops += len(changes[i].ops)
		bytes += changes[i].bytes
		if i > from && (compares > maxOps || ops > maxOps || bytes > maxTxnBytes) {
			return i
		}
	}
	return len(changes)
}

// batch writes changes in one transaction, or in parts where etcd refuses.
func (c *committer) batch(ctx context.Context, changes []change, verdicts []verdict) {
	var all change
	all.compare = append(all.compare, c.guard...)
	for _, ch := range changes {
		all.compare = append(all.compare, ch.compare...)
		all.ops = append(all.ops, ch.ops...)
	}
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	r, err := c.client.Txn(limited).If(all.compare...).Then(all.ops...).Commit()
	cancel()
	switch {
	case err == nil && r.Succeeded:
		for i := range verdicts {
			verdicts[i].revision = r.Header.Revision
		}
	case err == nil && len(changes) > 1:
		half := len(changes) / 2
		c.batch(ctx, changes[:half], verdicts[:half])
		c.batch(ctx, changes[half:], verdicts[half:])
	default:
		if err == nil {
			err = errRefused
		}
		for i := range verdicts {
			verdicts[i].err = err
		}
	}
}

// pool writes the changes of many goroutines together: what comes while a
// transaction is under way goes into the next one.
type pool struct {
	committer
	requests chan request
}

type request struct {
	change change
	answer chan verdict
}

func newPool(client *clientv3.Client) *pool {
	return &pool{committer: committer{client: client}, requests: make(chan request, maxOps)}
}

// run serves do until ctx ends.
func (p *pool) run(ctx context.Context) {
	for {
		var batch []request
		select {
		case <-ctx.Done():
			return
		case r := <-p.requests:
			batch = append(batch, r)
		}
		for more := true; more && len(batch) < parallel*maxOps; {
			select {
			case r := <-p.requests:
				batch = append(batch, r)
			default:
				more = false
			}
		}
		changes := make([]change, len(batch))
		for i, r := range batch {
			changes[i] = r.change
		}
		for i, v := range p.commit(ctx, changes) {
			batch[i].answer <- v
		}
	}
}

// do writes one change; its error is errRefused, etcd's, or ctx's.
func (p *pool) do(ctx context.Context, c change) (revision int64, err error) {
	r := request{c, make(chan verdict, 1)}
	select {
	case p.requests <- r:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	select {
	case v := <-r.answer:
		return v.revision, v.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
