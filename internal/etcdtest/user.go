package etcdtest

import (
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// User returns a client of a new user of a server with Options.Auth that may read and
// write keys; those that end with a slash are prefixes. Its role has its name.
func (s *Server) User(tb testing.TB, name string, keys ...string) *clientv3.Client {
	tb.Helper()
	root, ctx := s.Client(tb), tb.Context()
	do := func(_ any, err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	do(root.RoleAdd(ctx, name))
	for _, key := range keys {
		end := ""
		if strings.HasSuffix(key, "/") {
			end = clientv3.GetPrefixRangeEnd(key)
		}
		do(root.RoleGrantPermission(ctx, name, key, end, clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	do(root.UserAdd(ctx, name, "secret"))
	do(root.UserGrantRole(ctx, name, name))
	cfg := s.ClientConfig()
	cfg.Username, cfg.Password = name, "secret"
	return newClient(tb, cfg)
}
