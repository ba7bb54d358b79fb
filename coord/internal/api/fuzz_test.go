package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// FuzzCheckTxn gives the checks whatever a client may send: they must not panic, and what they let pass must be sound
// to the rest of the service.
func FuzzCheckTxn(f *testing.F) {
	for _, seed := range []*pb.TxnRequest{
		{},
		{Compare: []*pb.Compare{{Key: key("a")}}, Success: ops(putOp("a"), deleteOp("b", "\x00"))},
		{Success: ops(txnOp(&pb.TxnRequest{
			Success: ops(putOp("a"), deleteOp("b", "a")), Failure: ops(putOp("a")),
		}), deleteOp("x", ""))},
		{Failure: ops(&pb.RequestOp{}, rangeOp(&pb.RangeRequest{Key: key("a"), SortOrder: 9}))},
	} {
		encoded, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &pb.TxnRequest{}
		if proto.Unmarshal(data, r) != nil {
			return
		}
		costOfTxn(r)
		if checkTxn(r, 128) != nil {
			return
		}
		for _, list := range [][]*pb.RequestOp{r.Success, r.Failure} {
			seen := map[string]bool{}
			for _, op := range list {
				if put := op.GetRequestPut(); put != nil {
					if len(put.Key) == 0 || seen[string(put.Key)] {
						t.Errorf("let pass: %v", r)
					}
					seen[string(put.Key)] = true
				}
			}
		}
		isReadOnly(r)
		isSerializable(r)
	})
}

// FuzzPages asks for whatever page in whatever way: a handler must not panic, and answers with a status that there is.
func FuzzPages(f *testing.F) {
	for _, target := range []string{
		"/health", "/health?exclude=NOSPACE&serializable=true", "/livez?verbose", "/readyz?exclude=linearizable_read",
		"/readyz/non_learner",
		"/version", "/metrics", "/health?exclude=%ff%00;&&=&x", "/livez?verbose=-9223372036854775808", "//health/..//",
		"/readyz?exclude=" + strings.Repeat("x", 5000),
	} {
		f.Add("GET", target, "", "")
	}
	f.Add("POST", "/health", "Content-Length", "18446744073709551615")
	f.Add("GET", "/metrics", "Accept", "application/openmetrics-text; version=\xff; q=1e999")
	f.Add("GET", "/metrics", "Accept-Encoding", "gzip;q=, zstd;q=-1")
	pages := serve(f).server.HTTP()
	f.Fuzz(func(t *testing.T, method, target, header, value string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r := &http.Request{
			Method: method, URL: u, Host: "m", Header: http.Header{header: {value}}, Body: http.NoBody,
			RemoteAddr: "127.0.0.1:1",
		}
		w := httptest.NewRecorder()
		pages.ServeHTTP(w, r.WithContext(t.Context()))
		if w.Code < 200 || w.Code > 599 {
			t.Errorf("%s %s: %d", method, target, w.Code)
		}
	})
}
