package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/grpc/status"
)

// healthPages are etcd's /health, /livez and /readyz.
type healthPages struct {
	*service
	metrics *metrics
	log     *zap.Logger
}

// healthBody is the answer of /health.
type healthBody struct {
	Health string `json:"health"`
	Reason string `json:"reason"`
}

// serveHealth answers 503 if an alarm is raised that ?exclude does not name, or a read fails: of the cluster, or of
// this member alone with ?serializable=true.
func (h *healthPages) serveHealth(w http.ResponseWriter, r *http.Request) {
	if !onlyGet(w, r) {
		return
	}
	query := r.URL.Query()
	reason := h.unhealthy(r.Context(), query["exclude"], query.Get("serializable") == "true")
	if reason == "" {
		h.metrics.healthOK.Inc()
		body, _ := json.Marshal(healthBody{Health: "true"})
		_, _ = w.Write(body)
		return
	}
	h.metrics.healthFailed.Inc()
	body, _ := json.Marshal(healthBody{Health: "false", Reason: reason})
	h.log.Warn("not healthy", zap.String("reason", reason))
	http.Error(w, string(body), http.StatusServiceUnavailable)
}

// unhealthy is the reason, or empty.
func (h *healthPages) unhealthy(ctx context.Context, exclude []string, local bool) string {
	alarms, err := h.alarms(ctx)
	if err != nil {
		return "RANGE ERROR:" + status.Convert(err).Message()
	}
	for _, alarm := range alarms {
		switch name := alarm.Alarm.String(); {
		case slices.Contains(exclude, name):
		case alarm.Alarm == pb.AlarmType_NOSPACE, alarm.Alarm == pb.AlarmType_CORRUPT:
			return "ALARM " + name
		default:
			return "ALARM UNKNOWN"
		}
	}
	if !local && h.backend.Status().Leader == 0 {
		return "RAFT NO LEADER"
	}
	if err := h.read(ctx, local); err != nil {
		return "RANGE ERROR:" + status.Convert(err).Message()
	}
	return ""
}

func (h *healthPages) alarms(ctx context.Context) ([]*pb.AlarmMember, error) {
	view, err := h.backend.View(ctx)
	if err != nil {
		return nil, wireError(err)
	}
	defer view.Close()
	return view.Alarms(), nil
}

// read reads one key, of the cluster's state or of this member's.
func (h *healthPages) read(ctx context.Context, local bool) error {
	if !local {
		if err := h.readIndex(ctx); err != nil {
			return err
		}
	}
	view, err := h.backend.View(ctx)
	if err != nil {
		return wireError(err)
	}
	defer view.Close()
	_, err = view.Range(ctx, &pb.RangeRequest{Key: []byte{0}, KeysOnly: true, Limit: 1, Serializable: local})
	return wireError(err)
}

// check is one of the checks of a page.
type check struct {
	name string
	run  func(context.Context) error
}

func (h *healthPages) checkLocalRead(ctx context.Context) error { return h.read(ctx, true) }

func (h *healthPages) checkRead(ctx context.Context) error { return h.read(ctx, false) }

func (h *healthPages) checkNotCorrupt(ctx context.Context) error {
	alarms, err := h.alarms(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(alarms, func(a *pb.AlarmMember) bool { return a.Alarm == pb.AlarmType_CORRUPT }) {
		return errors.New("alarm activated: CORRUPT")
	}
	return nil
}

func (h *healthPages) checkVoter(context.Context) error {
	if h.backend.Status().Learner {
		return errors.New("not supported for learner")
	}
	return nil
}

// addChecks adds a page for all checks, less those that ?exclude names, and one for each.
func (h *healthPages) addChecks(mux *http.ServeMux, page string, checks ...check) {
	mux.HandleFunc("/"+page, func(w http.ResponseWriter, r *http.Request) {
		exclude := r.URL.Query()["exclude"]
		h.serveChecks(w, r, page, slices.DeleteFunc(slices.Clone(checks), func(c check) bool {
			return slices.Contains(exclude, c.name)
		}))
	})
	for _, c := range checks {
		mux.HandleFunc("/"+page+"/"+c.name, func(w http.ResponseWriter, r *http.Request) {
			h.serveChecks(w, r, page, []check{c})
		})
	}
}

// serveChecks says how each check went if one failed or ?verbose asks for it.
func (h *healthPages) serveChecks(w http.ResponseWriter, r *http.Request, page string, checks []check) {
	if !onlyGet(w, r) {
		return
	}
	var report strings.Builder
	failed := false
	for _, c := range checks {
		err := c.run(r.Context())
		h.count(page, c.name, err)
		if err == nil {
			fmt.Fprintf(&report, "[+]%s ok\n", c.name)
			continue
		}
		failed = true
		fmt.Fprintf(&report, "[-]%s failed: %s\n", c.name, status.Convert(err).Message())
	}
	if failed {
		h.log.Warn("health check failed", zap.String("page", page), zap.String("reason", report.String()))
		http.Error(w, report.String(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Query().Has("verbose") {
		fmt.Fprint(w, report.String())
	}
	fmt.Fprint(w, "ok\n")
}

func (h *healthPages) count(page, name string, err error) {
	value, result := 1.0, "success"
	if err != nil {
		value, result = 0, "error"
	}
	h.metrics.checks.WithLabelValues(page, name).Set(value)
	h.metrics.checksTotal.WithLabelValues(page, name, result).Inc()
}
