package etcdkv

import (
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// Unavailable reports whether what failed with err may do better a little later,
// as with an etcd that is restarted or elects a leader.
func Unavailable(err error) bool {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code() == codes.Unavailable
	}
	return grpcstatus.Code(err) == codes.Unavailable
}
