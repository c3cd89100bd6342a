package fingerprint

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"
)

// What is asked for, and the number of the member of the answer that has the
// version. The questions are empty, and of the answers nothing else matters: that
// is no reason to link the definitions of either program.
const (
	containerdVersion = "/containerd.services.version.v1.Version/Version"
	containerdMember  = 1
	criVersion        = "/runtime.v1.RuntimeService/Version"
	criMember         = 3
)

func (p *prober) askContainerd(ctx context.Context, _ *runtime, socket string) (string, error) {
	return askGRPC(ctx, socket, containerdVersion, containerdMember)
}

func (p *prober) askCRI(ctx context.Context, _ *runtime, socket string) (string, error) {
	return askGRPC(ctx, socket, criVersion, criMember)
}

// askGRPC calls method with an empty message and returns the text in member of
// the answer.
func askGRPC(ctx context.Context, socket, method string, member protowire.Number) (string, error) {
	conn, err := grpc.NewClient("passthrough:///localhost",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithMaxHeaderListSize(maxHeader),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	var answer emptypb.Empty
	if err := conn.Invoke(ctx, method, &emptypb.Empty{}, &answer); err != nil {
		return "", errors.New(status.Convert(err).Message())
	}
	return textOf(answer.ProtoReflect().GetUnknown(), member)
}

// textOf returns the text of one member of a message.
func textOf(message []byte, member protowire.Number) (string, error) {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return "", protowire.ParseError(n)
		}
		message = message[n:]
		if number == member && kind == protowire.BytesType {
			value, n := protowire.ConsumeBytes(message)
			return string(value), protowire.ParseError(min(n, 0))
		}
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return "", protowire.ParseError(n)
		}
		message = message[n:]
	}
	return "", nil
}
