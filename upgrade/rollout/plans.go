package rollout

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/perennial-go/perennial/internal/etcdkv"
)

// maxPlans bounds how many plans are read: each may have MaxPlanBytes.
const maxPlans = 100

// Plans reads the plans of all fleets, at most 100. Those that cannot be read are
// left out.
func Plans(ctx context.Context, client *clientv3.Client, root string) ([]Plan, error) {
	prefix := keys{root: etcdkv.CleanRoot(root)}.plan()
	r, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxPlans))
	if err != nil {
		return nil, fmt.Errorf("plans: etcd at %s: %w", etcdkv.Endpoints(client), err)
	}
	var all []Plan
	for _, kv := range r.Kvs {
		if p, err := ParsePlan(kv.Value); err == nil {
			all = append(all, p)
		}
	}
	return all, nil
}
