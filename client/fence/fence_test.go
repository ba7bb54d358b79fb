package fence

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
)

func TestToken(t *testing.T) {
	for _, want := range []Token{{"job", "job/1a", 7}, {"a b&c=d;%\n", "ä/1", 1 << 60}, {"x", "", 1}} {
		got, err := Parse(want.String())
		if err != nil || got != want {
			t.Errorf("%+v became %+v, %v", want, got, err)
		}
	}
	for _, s := range []string{"", "x", "name=a&key=b", "name=a&token=0", "name=a&token=-1", "token=1",
		"name=%zz&token=1", "name=a&token=99999999999999999999"} {
		if got, err := Parse(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
}

// TestL3MaxSeen: a smaller token is refused once a greater one was seen, by name.
func TestL3MaxSeen(t *testing.T) {
	m := NewMaxSeen("a", "b")
	for i, step := range []struct {
		name  string
		token int64
		want  error
	}{{"a", 5, nil}, {"a", 5, nil}, {"b", 1, nil}, {"a", 7, nil}, {"a", 5, ErrStale}, {"b", 2, nil}, {"a", 8, nil},
		{"c", 100, ErrStale}} {
		if err := m.Check(t.Context(), Token{Name: step.name, Token: step.token}); !errors.Is(err, step.want) {
			t.Errorf("step %d: %v", i, err)
		}
	}
}

// askFunc is an Asker.
type askFunc func(name, key string, token int64) (bool, error)

func (f askFunc) CheckToken(_ context.Context, name, key string, token int64) (bool, error) {
	return f(name, key, token)
}

var errUnreachable = errors.New("unreachable")

// holder knows one grant, and is unreachable for the token 99.
func holder(name, key string, token int64) (bool, error) {
	if token == 99 {
		return false, errUnreachable
	}
	return name == "job" && key == "job/1" && token == 7, nil
}

var (
	good   = Token{"job", "job/1", 7}
	stale  = Token{"job", "job/1", 6}
	nobody = Token{"job", "job/1", 99}
)

func TestAsk(t *testing.T) {
	c := Ask(askFunc(holder), "job")
	for _, test := range []struct {
		token Token
		want  error
	}{{good, nil}, {stale, ErrStale}, {nobody, errUnreachable}, {Token{"other", "other/1", 7}, ErrStale}} {
		if err := c.Check(t.Context(), test.token); !errors.Is(err, test.want) {
			t.Errorf("%+v: %v", test.token, err)
		}
	}
}

// healthServer notes the token that its handlers see.
type healthServer struct {
	grpc_health_v1.UnimplementedHealthServer
	seen chan Token
}

func (h *healthServer) Check(ctx context.Context,
	_ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	t, _ := FromContext(ctx)
	h.seen <- t
	return &grpc_health_v1.HealthCheckResponse{}, nil
}

func (h *healthServer) Watch(_ *grpc_health_v1.HealthCheckRequest,
	stream grpc.ServerStreamingServer[grpc_health_v1.HealthCheckResponse]) error {
	t, _ := FromContext(stream.Context())
	h.seen <- t
	return stream.Send(&grpc_health_v1.HealthCheckResponse{})
}

func TestGRPC(t *testing.T) {
	c := Ask(askFunc(holder), "job")
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer(grpc.UnaryInterceptor(UnaryServerInterceptor(c)),
		grpc.StreamInterceptor(StreamServerInterceptor(c)))
	h := &healthServer{seen: make(chan Token, 1)}
	grpc_health_v1.RegisterHealthServer(server, h)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn,
			error) {
			return listener.DialContext(ctx)
		}),
		grpc.WithUnaryInterceptor(UnaryClientInterceptor()), grpc.WithStreamInterceptor(StreamClientInterceptor()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := grpc_health_v1.NewHealthClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	calls := map[string]func(context.Context) error{
		"unary": func(ctx context.Context) error {
			_, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{})
			return err
		},
		"stream": func(ctx context.Context) error {
			stream, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		},
	}
	for what, call := range calls {
		for _, test := range []struct {
			ctx  context.Context
			want codes.Code
		}{
			{ctx, codes.InvalidArgument}, {WithToken(ctx, Token{}), codes.InvalidArgument},
			{WithToken(ctx, stale), codes.FailedPrecondition},
			{WithToken(ctx, nobody), codes.Unavailable}, {WithToken(ctx, good), codes.OK},
		} {
			err := call(test.ctx)
			if status.Code(err) != test.want || IsStale(err) != (test.want == codes.FailedPrecondition) {
				t.Errorf("%s: %v, want %v", what, err, test.want)
			}
		}
		if seen := <-h.seen; seen != good || len(h.seen) != 0 {
			t.Errorf("%s: the handler saw %+v", what, seen)
		}
	}
}

func TestHTTP(t *testing.T) {
	served := 0
	server := httptest.NewServer(Handler(Ask(askFunc(holder), "job"),
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served++
			if seen, _ := FromContext(r.Context()); seen != good {
				t.Errorf("the handler saw %+v", seen)
			}
		})))
	defer server.Close()
	client := &http.Client{Transport: &Transport{}}
	defer client.CloseIdleConnections()
	for _, test := range []struct {
		token *Token
		want  int
	}{{nil, 428}, {&Token{}, 400}, {&stale, 412}, {&nobody, 503}, {&good, 200}} {
		ctx := t.Context()
		if test.token != nil {
			ctx = WithToken(ctx, *test.token)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%+v: %s, want %d", test.token, resp.Status, test.want)
		}
	}
	if served != 1 {
		t.Errorf("served %d times", served)
	}
}
