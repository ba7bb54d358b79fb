package api

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"

	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

func (f *fixture) get(t *testing.T, method, target string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	f.server.HTTP().ServeHTTP(w, httptest.NewRequest(method, target, nil))
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Code, string(body)
}

func (f *fixture) wantPage(t *testing.T, target string, code int, body string) {
	t.Helper()
	if gotCode, got := f.get(t, http.MethodGet, target); gotCode != code || got != body {
		t.Errorf("%s: %d %q, want %d %q", target, gotCode, got, code, body)
	}
}

func (f *fixture) raise(t *testing.T, alarm pb.AlarmType, action pb.AlarmRequest_AlarmAction) {
	t.Helper()
	request := &pb.AlarmRequest{Action: action, MemberID: 5, Alarm: alarm}
	if _, err := propose[*pb.AlarmResponse](t.Context(), f.server.system, raftv1.KindAlarm, request); err != nil {
		t.Fatal(err)
	}
}

func TestVersionPage(t *testing.T) {
	f := serve(t)
	f.wantPage(t, "/version", 200, `{"etcdserver":"3.7.3","etcdcluster":"3.7.0","storage":"3.7.0"}`)
	if code, _ := f.get(t, http.MethodPost, "/version"); code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", code)
	}
}

func TestHealthPage(t *testing.T) {
	f := serve(t)
	healthy := `{"health":"true","reason":""}`
	f.wantPage(t, "/health", 200, healthy)
	f.raise(t, pb.AlarmType_NOSPACE, pb.AlarmRequest_ACTIVATE)
	f.wantPage(t, "/health", 503, `{"health":"false","reason":"ALARM NOSPACE"}`+"\n")
	f.wantPage(t, "/health?exclude=NOSPACE", 200, healthy)
	f.wantPage(t, "/health?exclude=CORRUPT", 503, `{"health":"false","reason":"ALARM NOSPACE"}`+"\n")
	f.raise(t, pb.AlarmType_NOSPACE, pb.AlarmRequest_DEACTIVATE)

	f.setStatus(func(s *Status) { s.Leader = 0 })
	f.wantPage(t, "/health", 503, `{"health":"false","reason":"RAFT NO LEADER"}`+"\n")
	f.wantPage(t, "/health?serializable=true", 200, healthy)
	f.setStatus(func(s *Status) { s.Leader = 2 })
	f.failReads(ErrTimeout)
	f.wantPage(t, "/health", 503, `{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}`+"\n")
	f.wantPage(t, "/health?serializable=true", 200, healthy)
}

func TestLivezReadyz(t *testing.T) {
	f := serve(t)
	f.wantPage(t, "/livez", 200, "ok\n")
	f.wantPage(t, "/livez?verbose", 200, "[+]serializable_read ok\nok\n")
	f.wantPage(t, "/readyz?verbose", 200, "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read "+
		"ok\n[+]non_learner ok\nok\n")
	f.wantPage(t, "/readyz/non_learner", 200, "ok\n")

	f.failReads(ErrTimeout)
	f.setStatus(func(s *Status) { s.Learner = true })
	f.wantPage(t, "/livez", 200, "ok\n")
	f.wantPage(t, "/readyz", 503, "[+]data_corruption ok\n[+]serializable_read ok\n"+
		"[-]linearizable_read failed: etcdserver: request timed out\n[-]non_learner failed: not supported for "+
		"learner\n\n")
	f.wantPage(t, "/readyz?exclude=linearizable_read&exclude=non_learner", 200, "ok\n")
	f.wantPage(t, "/readyz/linearizable_read", 503, "[-]linearizable_read failed: etcdserver: request timed out\n\n")
}

// A corrupt member neither reads nor writes, and says so.
func TestCorrupt(t *testing.T) {
	f := serve(t)
	f.raise(t, pb.AlarmType_CORRUPT, pb.AlarmRequest_ACTIVATE)
	corrupt := wants{codes.DataLoss, "etcdserver: corrupt cluster"}
	_, err := f.kv.Put(t.Context(), &pb.PutRequest{Key: key("a")})
	corrupt.check(t, err)
	_, err = f.kv.Range(t.Context(), &pb.RangeRequest{Key: key("a"), Serializable: true})
	corrupt.check(t, err)
	f.wantPage(t, "/health", 503, `{"health":"false","reason":"ALARM CORRUPT"}`+"\n")
	f.wantPage(t, "/readyz/data_corruption", 503, "[-]data_corruption failed: alarm activated: CORRUPT\n\n")
}

func TestMetricsPage(t *testing.T) {
	f := serve(t)
	f.put(t, "a", "1")
	f.get(t, http.MethodGet, "/health")
	f.get(t, http.MethodGet, "/readyz")
	_, page := f.get(t, http.MethodGet, "/metrics")
	for _, line := range []string{
		`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1`,
		`grpc_server_started_total{grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 0`,
		`etcd_server_client_requests_total{client_api_version="unknown",type="unary"} 1`,
		`etcd_server_health_success 1`,
		`etcd_server_healthchecks_total{name="linearizable_read",status="success",type="readyz"} 1`,
	} {
		if !strings.Contains(page, line+"\n") {
			t.Errorf("no %s", line)
		}
	}
}
