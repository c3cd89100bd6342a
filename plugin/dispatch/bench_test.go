package dispatch_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/backoff"
	"github.com/perennial-go/perennial/internal/etcdkv"
	"github.com/perennial-go/perennial/internal/etcdtest"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// BenchmarkTasks has 100 agents in this process do tasks that do nothing, in a
// real etcd, from the first submission to the last record: tasks/s, beside the
// transactions of one put each that etcd does for as many writers.
func BenchmarkTasks(b *testing.B) {
	client := etcdtest.Start(b).Client(b)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	session, err := etcdkv.NewSession(etcdkv.SessionConfig{Client: client})
	if err != nil {
		b.Fatal(err)
	}
	running.Go(func() { _ = session.Run(ctx) })
	for i := range 100 {
		w, err := dispatch.NewWorker(dispatch.WorkerConfig{
			Client: client, AgentID: fmt.Sprintf("agent-%03d", i), Instance: "i", Plugins: newHost(map[string]work{"do": nothing}),
			Lease: func() clientv3.LeaseID { return clientv3.LeaseID(session.Lease()) },
		})
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() { _ = w.Run(ctx) })
	}
	d, err := dispatch.NewDispatcher(dispatch.DispatcherConfig{Client: client, ID: "d"})
	if err != nil {
		b.Fatal(err)
	}
	running.Go(func() { _ = d.Run(ctx) })
	queue, err := dispatch.NewQueue(dispatch.QueueConfig{Client: client})
	if err != nil {
		b.Fatal(err)
	}
	const writers = 32
	each := func(do func() error) {
		var wg sync.WaitGroup
		jobs := make(chan struct{})
		for range writers {
			wg.Go(func() {
				for range jobs {
					if err := do(); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for range b.N {
			jobs <- struct{}{}
		}
		close(jobs)
		wg.Wait()
	}
	began := time.Now()
	each(func() error {
		_, err := client.Txn(ctx).If(clientv3.Compare(clientv3.Version("/raw"), ">", -1)).Then(clientv3.OpPut("/raw", "x")).Commit()
		return err
	})
	raw := float64(b.N) / time.Since(began).Seconds()
	b.ResetTimer()
	b.ReportMetric(raw, "raw-txns/s")
	began = time.Now()
	each(func() error {
		_, err := queue.Submit(ctx, dispatch.Task{Capability: "do"})
		return err
	})
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "submits/s")
	for {
		got, err := client.Get(ctx, dispatch.Prefix("")+"done/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			b.Fatal(err)
		}
		if int(got.Count) >= b.N {
			break
		}
		_ = backoff.Sleep(ctx, 10*time.Millisecond)
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "tasks/s")
}
