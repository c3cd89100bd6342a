package etcdkv

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// login authenticates calls with a user's name and password. The client could
// do so itself, but asks for a token while it is built, and so cannot be built
// without etcd.
type login struct {
	username, password string

	// turn holds one token and guards what follows: whoever holds the turn
	// may authenticate, and waiting for it ends with the caller's context.
	turn  chan struct{}
	known bool
	token string // empty with known = authentication is off in etcd
}

func newLogin(username, password string) *login {
	return &login{username: username, password: password, turn: make(chan struct{}, 1)}
}

// unary is a grpc.UnaryClientInterceptor.
func (l *login) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if method == pb.Auth_Authenticate_FullMethodName {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	token, err := l.get(ctx, cc, nil)
	if err != nil {
		return err
	}
	err = invoke(withToken(ctx, token), method, req, reply, cc, opts...)
	if !refused(err) {
		return err
	}
	// Refused before anything was done: the token is old, or authentication
	// has been turned on meanwhile.
	if token, err = l.get(ctx, cc, &token); err != nil {
		return err
	}
	return invoke(withToken(ctx, token), method, req, reply, cc, opts...)
}

// stream is a grpc.StreamClientInterceptor. Streams are rare, and what is
// wrong with a token shows only later: they get a fresh one.
func (l *login) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	token, err := l.renew(ctx, cc)
	if err != nil {
		return nil, err
	}
	return open(withToken(ctx, token), desc, cc, method, opts...)
}

// get returns the token, or another one if it is the stale one.
func (l *login) get(ctx context.Context, cc *grpc.ClientConn, stale *string) (string, error) {
	if err := l.take(ctx); err != nil {
		return "", err
	}
	defer func() { <-l.turn }()
	if l.known && (stale == nil || l.token != *stale) {
		return l.token, nil
	}
	return l.authenticate(ctx, cc)
}

// renew returns a token that etcd has just given.
func (l *login) renew(ctx context.Context, cc *grpc.ClientConn) (string, error) {
	if err := l.take(ctx); err != nil {
		return "", err
	}
	defer func() { <-l.turn }()
	return l.authenticate(ctx, cc)
}

func (l *login) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// authenticate is for the holder of the turn.
func (l *login) authenticate(ctx context.Context, cc *grpc.ClientConn) (string, error) {
	r, err := pb.NewAuthClient(cc).Authenticate(ctx, &pb.AuthenticateRequest{Name: l.username, Password: l.password})
	switch err = rpctypes.Error(err); {
	case err == nil:
		l.known, l.token = true, r.Token
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		l.known, l.token = true, ""
	default:
		return "", fmt.Errorf("log in to etcd as %s: %w", l.username, err)
	}
	return l.token, nil
}

func withToken(ctx context.Context, token string) context.Context {
	if token == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
}

func refused(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) ||
		errors.Is(err, rpctypes.ErrAuthOldRevision) ||
		errors.Is(err, rpctypes.ErrUserEmpty)
}
