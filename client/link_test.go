package client

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	coordv1 "github.com/coord-dev/coord/proto/coord/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// grpcMember serves a fakeCluster's streams over gRPC, to users with a password.
type grpcMember struct {
	coordv1.UnimplementedStreamServer
	pb.UnimplementedAuthServer
	f     *fakeCluster
	token string // metadata that each stream must have
}

func (g *grpcMember) Authenticate(_ context.Context, req *pb.AuthenticateRequest) (*pb.AuthenticateResponse, error) {
	switch {
	case req.Name == "nobody":
		return nil, rpctypes.ErrGRPCAuthNotEnabled
	case req.Password != "secret":
		return nil, rpctypes.ErrGRPCAuthFailed
	}
	return &pb.AuthenticateResponse{Token: "a token"}, nil
}

func (g *grpcMember) Open(stream grpc.BidiStreamingServer[coordv1.ClientFrame, coordv1.ServerFrame]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if md, _ := metadata.FromIncomingContext(stream.Context()); first.Hello.GetProtocol() != 1 || g.token != "" &&
		len(md.Get(g.token)) == 0 {
		return status.Error(codes.Unauthenticated, "no token")
	}
	l, err := g.f.dial(stream.Context(), "member")
	if err != nil {
		return err
	}
	s := l.stream.(*fakeStream)
	if err := stream.Send(&coordv1.ServerFrame{Welcome: &coordv1.Welcome{ClusterId: 1, MemberId: 2}}); err != nil {
		return err
	}
	go func() {
		for {
			frame, err := stream.Recv()
			if err != nil {
				s.cut(err)
				return
			}
			_ = s.Send(frame)
		}
	}()
	for {
		frame, err := s.Recv()
		if err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
		if err := stream.Send(frame); err != nil {
			return err
		}
	}
}

// serve starts a member, and returns the options to dial it by any name.
func serve(t *testing.T, register func(*grpc.Server)) []grpc.DialOption {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn,
		error) {
		return listener.DialContext(ctx)
	})}
}

func serveFake(t *testing.T, f *fakeCluster, token string) []grpc.DialOption {
	return serve(t, func(s *grpc.Server) {
		g := &grpcMember{f: f, token: token}
		coordv1.RegisterStreamServer(s, g)
		pb.RegisterAuthServer(s, g)
	})
}

// TestLinkOverGRPC: hello and welcome, requests, a broken stream, and nothing left after Close.
func TestLinkOverGRPC(t *testing.T) {
	f := newFake()
	c, err := New(Config{Endpoints: []string{"http://here"}, DialOptions: serveFake(t, f, "")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 3 {
		if _, err := c.Put(ctx, "k", "v"); err != nil {
			t.Fatal(err)
		}
		f.cutAll()
	}
	if err := c.Lock("job").Do(ctx, func(context.Context, *Held) error { return nil }); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if n := f.count(coordv1.Kind_KIND_PUT); n != 3 {
		t.Errorf("%d puts executed", n)
	}
}

// TestUsers: New waits for the password to be taken, whether or not the server knows users; a wrong one is an error.
func TestUsers(t *testing.T) {
	open, guarded := serveFake(t, newFake(), ""), serveFake(t, newFake(), rpctypes.TokenFieldNameGRPC)
	for _, test := range []struct {
		user, password string
		options        []grpc.DialOption
		want           error
	}{{"somebody", "secret", guarded, nil}, {"nobody", "x", open, nil},
		{"somebody", "wrong", guarded, rpctypes.ErrAuthFailed}} {
		c, err := New(Config{Endpoints: []string{"here"}, Username: test.user, Password: test.password,
			DialOptions: test.options})
		if test.want != nil {
			if !errors.Is(err, test.want) || c != nil {
				t.Errorf("%s: %v", test.password, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.user, err)
			continue
		}
		_ = c.Close()
	}
}

// TestNotCoord: a server without the stream is told apart from one that is not there.
func TestNotCoord(t *testing.T) {
	c, err := New(Config{Endpoints: []string{"here"}, DialOptions: serve(t, func(*grpc.Server) {})})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := c.Lock("job").Acquire(ctx); status.Code(err) != codes.Unimplemented {
		t.Errorf("%v", err)
	}
}

func TestTargets(t *testing.T) {
	for endpoint, want := range map[string]string{
		"a:1": "passthrough:///a:1", "http://a:1": "passthrough:///a:1", "unix:///tmp/s": "unix:/tmp/s",
		"dns:///a:1": "dns:///a:1",
	} {
		if got, encrypt := targetOf(endpoint); got != want || encrypt {
			t.Errorf("%s: %s, %v", endpoint, got, encrypt)
		}
	}
	if got, encrypt := targetOf("https://a:1"); got != "passthrough:///a:1" || !encrypt {
		t.Errorf("%s, %v", got, encrypt)
	}
}
