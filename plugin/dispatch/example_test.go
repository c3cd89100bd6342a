package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// A submitter puts a task into the queue and follows what it yields.
func ExampleQueue() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://127.0.0.1:2379"}})
	if err != nil {
		log.Fatal(err)
	}
	queue, err := dispatch.NewQueue(dispatch.QueueConfig{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	task, err := queue.Submit(ctx, dispatch.Task{
		Capability:     "run",
		Version:        ">=1.2",
		Selector:       "env=test,.group=eu",
		Policy:         dispatch.LeastLoaded,
		Payload:        []byte(`{"command": "df"}`),
		Timeout:        time.Minute,
		IdempotencyKey: "df of today",
	})
	switch {
	case errors.Is(err, dispatch.ErrQueueFull):
		fmt.Println("later")
		return
	case err != nil:
		log.Fatal(err)
	}
	end, err := queue.Follow(ctx, task.ID, 0, func(r dispatch.Result) error {
		fmt.Printf("%s", r.Payload)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(end.State, end.Error)
}

// An agent runs what is assigned to it on its plugins.
func ExampleWorker() {
	var (
		client  *clientv3.Client
		manager *plugin.Manager
		lease   clientv3.LeaseID // the agent's
	)
	worker, err := dispatch.NewWorker(dispatch.WorkerConfig{
		Client: client, AgentID: "web-1", Instance: "5f0c2a", Lease: func() clientv3.LeaseID { return lease },
		Labels: map[string]string{"env": "test"}, Groups: []string{"eu"}, Plugins: manager,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = worker.Run(context.Background())
	// Output: worker: WorkerConfig.Client is nil
}
