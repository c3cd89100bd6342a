package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/perennial-go/perennial/internal/waittest"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
)

// TestRunsOfTasksAreCountedByHowTheyEnded, over two workers of one program: the
// second goes on from what the first has counted.
func TestRunsOfTasksAreCountedByHowTheyEnded(t *testing.T) {
	r := newRig(t)
	m := dispatch.NewMetrics()
	resign := r.dispatcher("d", func(c *dispatch.DispatcherConfig) { c.Metrics = m })
	entered, leave := make(chan struct{}), make(chan struct{})
	a := r.agent("a", newHost(map[string]work{"do": func(_ context.Context, task plugin.Task, _ func(plugin.Result) error) error {
		switch string(task.Payload) {
		case "bad":
			return fmt.Errorf("%w: it is bad", plugin.ErrPermanent)
		case "slow":
			close(entered)
			<-leave
		}
		return nil
	}}), func(c *dispatch.WorkerConfig) { c.Metrics = m })
	counts := func(want ...string) error {
		head := "# HELP perennial_tasks_total Runs of tasks that have ended here, by outcome.\n# TYPE perennial_tasks_total counter\n"
		rest := "# HELP perennial_task_dispatcher 1 while this process assigns the tasks of the fleet.\n# TYPE perennial_task_dispatcher gauge\n" +
			"perennial_task_dispatcher " + want[0] + "\n" +
			"# HELP perennial_tasks_running Tasks that run here.\n# TYPE perennial_tasks_running gauge\nperennial_tasks_running " + want[1] + "\n"
		for i, outcome := range []string{"cancelled", "expired", "failed", "permanent", "released", "succeeded", "withdrawn"} {
			head += fmt.Sprintf("perennial_tasks_total{outcome=%q} %s\n", outcome, want[2+i])
		}
		return testutil.CollectAndCompare(m, strings.NewReader(head+rest), "perennial_tasks_total", "perennial_tasks_running", "perennial_task_dispatcher")
	}
	r.becomes(r.submit(dispatch.Task{Payload: []byte("good")}), dispatch.Succeeded)
	r.becomes(r.submit(dispatch.Task{Payload: []byte("bad")}), dispatch.Dead)
	slow := r.submit(dispatch.Task{Payload: []byte("slow")})
	waittest.Next(t, "it runs", entered)
	waittest.Nil(t, "one runs", func() error { return counts("1", "1", "0", "0", "0", "1", "0", "1", "0") })
	close(leave)
	r.becomes(slow, dispatch.Succeeded)
	a.stop()
	a.start("2", func(c *dispatch.WorkerConfig) { c.Metrics = m })
	r.becomes(r.submit(dispatch.Task{Payload: []byte("good")}), dispatch.Succeeded)
	resign()
	waittest.Nil(t, "all have ended", func() error { return counts("0", "0", "0", "0", "0", "1", "0", "3", "0") })
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}
