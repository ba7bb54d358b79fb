package api

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.etcd.io/etcd/api/v3/version"

	"github.com/coord-dev/coord/proto/principal"
)

// maxScrapes is how many read the metrics at a time: each holds a copy of all. Others are answered 503.
const maxScrapes = 16

func (s *Server) newHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/version", serveVersion)
	mux.Handle("/metrics", promhttp.HandlerFor(s.opts.Registry, promhttp.HandlerOpts{
		Registry: s.opts.Registry, MaxRequestsInFlight: maxScrapes,
	}))
	h := &healthPages{service: s.system, metrics: s.metrics, log: s.opts.Logger}
	mux.HandleFunc("/health", h.serveHealth)
	h.addChecks(mux, "livez", check{"serializable_read", h.checkLocalRead})
	h.addChecks(mux, "readyz",
		check{"data_corruption", h.checkNotCorrupt},
		check{"serializable_read", h.checkLocalRead},
		check{"linearizable_read", h.checkRead},
		check{"non_learner", h.checkVoter},
	)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(w, r.WithContext(principal.Member(r.Context()))) // what the pages say is about the member
	})
}

func serveVersion(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	body, _ := json.Marshal(version.Versions{Server: serverVersion, Cluster: clusterVersion, Storage: storageVersion})
	_, _ = w.Write(body)
}

// onlyGet answers any other method.
func onlyGet(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet {
		return true
	}
	w.Header().Set("Allow", http.MethodGet)
	http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	return false
}
