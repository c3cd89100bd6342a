package etcdkv

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/perennial-go/perennial/internal/secretfile"
)

const (
	// freshToken is the age up to which a stream takes a token that another
	// call has fetched: a fleet that reconnects logs in once each, not once a
	// stream, and a login is the dearest thing that etcd does.
	freshToken = 10 * time.Second
	// refusalHolds is how long a refused login is not tried again with the
	// same password, for the same reason.
	refusalHolds = 2 * time.Second

	maxPasswordFile = 4096
)

// login authenticates calls with a user's name and password. The client could
// do so itself, but asks for a token while it is built, and so cannot be built
// without etcd.
type login struct {
	username, file string
	metrics        *Metrics

	// turn holds one token and guards what follows: whoever holds the turn
	// may authenticate, and waiting for it ends with the caller's context.
	turn     chan struct{}
	password string
	known    bool
	token    string // empty with known = authentication is off in etcd
	at       time.Time
	refusal  error // of this password
	until    time.Time
}

func newLogin(cfg ClientConfig) (*login, error) {
	l := &login{username: cfg.Username, password: cfg.Password, file: cfg.PasswordFile, metrics: cfg.Metrics, turn: make(chan struct{}, 1)}
	return l, l.readPassword()
}

// readPassword takes over what the file holds now.
func (l *login) readPassword() error {
	if l.file == "" {
		return nil
	}
	password, err := secretfile.Read("password of the etcd user "+l.username, l.file, maxPasswordFile)
	switch {
	case err != nil:
		return err
	case password == "" || strings.ContainsAny(password, "\r\n"):
		return fmt.Errorf("password of the etcd user %s: want one line in %s, found none or more", l.username, l.file)
	case password != l.password:
		l.password, l.refusal = password, nil
	}
	return nil
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

// stream is a grpc.StreamClientInterceptor. What is wrong with a token shows
// only in what is received, when nobody repeats the call: streams get a token
// that is new.
func (l *login) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	token, err := l.fresh(ctx, cc)
	if err != nil {
		return nil, err
	}
	s, err := open(withToken(ctx, token), desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &loggedInStream{ClientStream: s, refused: func() { l.drop(ctx, token) }}, nil
}

// loggedInStream notices that its token was refused, so that the stream that
// takes its place gets another.
type loggedInStream struct {
	grpc.ClientStream
	refused func()
}

func (s *loggedInStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch r, isWatch := m.(*pb.WatchResponse); {
	case refused(err):
		s.refused()
	case err == nil && isWatch && r.Canceled && refusedText(r.CancelReason):
		s.refused()
	}
	return err
}

// get returns the token, or another one if it is the stale one.
func (l *login) get(ctx context.Context, cc *grpc.ClientConn, stale *string) (string, error) {
	if err := l.take(ctx); err != nil {
		return "", err
	}
	defer l.pass()
	if l.known && (stale == nil || l.token != *stale) {
		return l.token, nil
	}
	return l.authenticate(ctx, cc)
}

// fresh returns a token that etcd has given lately.
func (l *login) fresh(ctx context.Context, cc *grpc.ClientConn) (string, error) {
	if err := l.take(ctx); err != nil {
		return "", err
	}
	defer l.pass()
	if l.known && time.Since(l.at) < freshToken {
		return l.token, nil
	}
	return l.authenticate(ctx, cc)
}

// drop forgets a token that was refused.
func (l *login) drop(ctx context.Context, token string) {
	if l.take(ctx) != nil {
		return
	}
	defer l.pass()
	if l.token == token {
		l.known = false
	}
}

func (l *login) take(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *login) pass() { <-l.turn }

// authenticate is for the holder of the turn.
func (l *login) authenticate(ctx context.Context, cc *grpc.ClientConn) (string, error) {
	unread := l.readPassword() // else the one read last may still do
	if l.refusal != nil && time.Now().Before(l.until) {
		return "", l.refusal
	}
	r, err := pb.NewAuthClient(cc).Authenticate(ctx,
		&pb.AuthenticateRequest{Name: l.username, Password: l.password}, grpc.WaitForReady(true))
	switch err = rpctypes.Error(err); {
	case err == nil:
		l.known, l.token, l.at, l.refusal = true, r.Token, time.Now(), nil
		l.metrics.login("ok")
	case errors.Is(err, rpctypes.ErrAuthNotEnabled):
		l.known, l.token, l.at, l.refusal = true, "", time.Now(), nil
		l.metrics.login("off")
	case errors.Is(err, rpctypes.ErrAuthFailed):
		l.refusal = l.refusedLogin(errors.Join(err, unread))
		l.known, l.until = false, time.Now().Add(refusalHolds)
		l.metrics.login("refused")
		return "", l.refusal
	default:
		l.metrics.login("failed")
		return "", fmt.Errorf("log in to etcd as %s: %w", l.username, err)
	}
	return l.token, nil
}

func (l *login) refusedLogin(err error) error {
	where := "give the right password"
	if l.file != "" {
		where = "put the right password into " + l.file + ", which is read for each login"
	}
	return fmt.Errorf("log in to etcd as %s: %w: there is no such user, or it has another password: %s", l.username, err, where)
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

// refusedText is refused for an error that a watch gives as text.
func refusedText(reason string) bool {
	for _, err := range []error{rpctypes.ErrGRPCInvalidAuthToken, rpctypes.ErrGRPCAuthOldRevision, rpctypes.ErrGRPCUserEmpty} {
		if strings.Contains(reason, rpctypes.ErrorDesc(err)) {
			return true
		}
	}
	return false
}
