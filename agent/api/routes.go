package api

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	openapi "github.com/paramedic-ha/paramedic/docs/api"
)

// route is one method on one path. A reserved one belongs to the API's design and is not built yet.
type route struct {
	method, path string
	handle       http.HandlerFunc
	callers      callers       // besides administrators; zero: none
	limit        time.Duration // for the backend; zero: requestTimeout
	reserved     bool
}

func (s *Server) routes(metrics prometheus.Gatherer) []route {
	scrape := promhttp.HandlerFor(metrics, promhttp.HandlerOpts{Timeout: requestTimeout, MaxRequestsInFlight: 4})
	plain := []route{
		{method: "GET", path: "/v1/status", handle: s.getStatus},
		{method: "GET", path: "/v1/alarms", handle: s.getAlarms, callers: consumers},
		{method: "GET", path: "/v1/alarms/{id}", handle: s.getAlarm, callers: consumers},
		{method: "GET", path: "/v1/alarms/{id}/explanation", handle: s.getExplanation, callers: consumers},
		{method: "POST", path: "/v1/alarms/{id}/ack", handle: s.postAck, callers: consumers},
		{method: "POST", path: "/v1/alarms/{id}/comments", handle: s.postComment},
		{method: "POST", path: "/v1/alarms/{id}/clear", handle: s.postClear},
		{method: "GET", path: "/v1/mutes", handle: s.getMutes},
		{method: "PUT", path: "/v1/mutes", handle: s.putMute},
		{method: "GET", path: "/v1/mutes/{id}", handle: s.getMute},
		{method: "DELETE", path: "/v1/mutes/{id}", handle: s.deleteMute},
		{method: "GET", path: "/v1/events", handle: s.getEvents},
		{method: "POST", path: "/v1/events", handle: s.postEvents, callers: monitors},
		{method: "PUT", path: "/v1/events", handle: s.postEvents, callers: monitors},
		{method: "GET", path: "/v1/resources", handle: s.getResources, callers: consumers},
		{method: "GET", path: "/v1/resources/{id...}", handle: s.getResource, callers: consumers},
		{method: "GET", path: "/v1/topology", handle: s.getTopology},
		{method: "GET", path: "/v1/hosts", handle: s.getHosts},
		{method: "GET", path: "/v1/hosts/{name}", handle: s.getHost},
		{method: "DELETE", path: "/v1/hosts/{name}", handle: s.deleteHost},
		{method: "GET", path: "/v1/keys", handle: s.getKeys},
		{method: "POST", path: "/v1/keys", handle: s.postKey},
		{method: "POST", path: "/v1/keys/{id}/use", handle: s.useKey},
		{method: "DELETE", path: "/v1/keys/{id}", handle: s.deleteKey},
		{method: "GET", path: "/v1/subscriptions", handle: s.getSubscriptions, callers: consumers},
		{method: "POST", path: "/v1/subscriptions", handle: s.postSubscription, callers: consumers, limit: consumerTimeout},
		{method: "GET", path: "/v1/subscriptions/{id}", handle: s.getSubscription, callers: consumers},
		{method: "PATCH", path: "/v1/subscriptions/{id}", handle: s.patchSubscription, callers: consumers, limit: consumerTimeout},
		{method: "DELETE", path: "/v1/subscriptions/{id}", handle: s.deleteSubscription, callers: consumers},
		{method: "POST", path: "/v1/subscriptions/{id}/test", handle: s.postTest, callers: consumers, limit: consumerTimeout},
		{method: "GET", path: "/v1/deliveries", handle: s.getDeliveries, callers: consumers},
		{method: "POST", path: "/v1/deliveries/{id}/retry", handle: s.postRetry, callers: consumers},
		{method: "POST", path: "/v1/subscriptions/{id}/retry", handle: s.postRetryAll, callers: consumers},
		{method: "DELETE", path: "/v1/deliveries/{id}", handle: s.deleteDelivery, callers: consumers},
		{method: "GET", path: "/v1/profile", handle: s.getProfile},
		{method: "GET", path: "/v1/openapi.yaml", callers: known, handle: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/yaml") // RFC 9512
			_, _ = w.Write(openapi.Document())
		}},
		{method: "GET", path: "/healthz", handle: s.getHealth, callers: anybody},
		{method: "GET", path: "/readyz", handle: s.getReady, callers: anybody},
		{method: "GET", path: "/metrics", handle: scrape.ServeHTTP, callers: monitors},
	}
	plain = append(plain, s.solRoutes()...)
	for i, r := range plain {
		plain[i].handle = s.within(cmp.Or(r.limit, requestTimeout), r.handle)
	}
	// A watch lasts as long as its client.
	all := append(plain, route{method: "GET", path: "/v1/watch", handle: s.getWatch, callers: consumers})
	for _, r := range []route{
		{method: "PUT", path: "/v1/hosts/{name}/state"},
		{method: "GET", path: "/v1/maintenance"},
		{method: "POST", path: "/v1/maintenance"},
		{method: "GET", path: "/v1/maintenance/{rest...}"},
		{method: "POST", path: "/v1/maintenance/{rest...}"},
	} {
		r.reserved, r.handle = true, s.notBuilt
		all = append(all, r)
	}
	return all
}

// handler joins the routes by path, so that a wrong method and an unknown path are told apart and both are problems.
func (s *Server) handler(metrics prometheus.Gatherer) http.Handler {
	methods := make(map[string]map[string]http.HandlerFunc)
	for _, r := range s.routes(metrics) {
		if methods[r.path] == nil {
			methods[r.path] = make(map[string]http.HandlerFunc)
		}
		handle := s.permit(r.callers, r.handle)
		methods[r.path][r.method] = handle
		if r.method == http.MethodGet {
			methods[r.path][http.MethodHead] = handle
		}
	}
	mux := http.NewServeMux()
	for path, handlers := range methods {
		other := s.permit(known, func(w http.ResponseWriter, r *http.Request) {
			allowed := make([]string, 0, len(handlers))
			for method := range handlers {
				allowed = append(allowed, method)
			}
			slices.Sort(allowed)
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			s.refuse(w, r, &refusal{
				http.StatusMethodNotAllowed, "method", "the method is not allowed here",
				fmt.Sprintf("%s %s: the methods are %s", r.Method, r.URL.Path, strings.Join(allowed, ", ")),
			})
		})
		mux.HandleFunc(path, s.guard(func(w http.ResponseWriter, r *http.Request) {
			if handle, ok := handlers[r.Method]; ok {
				handle(w, r)
			} else {
				other(w, r)
			}
		}))
	}
	mux.HandleFunc("/", s.guard(s.permit(known, func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, notFound("nothing is served at %s: /v1/openapi.yaml lists what is", r.URL.Path))
	})))
	return mux
}

func (s *Server) notBuilt(w http.ResponseWriter, r *http.Request) {
	s.refuse(w, r, &refusal{
		http.StatusNotImplemented, "not-built", "not yet built",
		fmt.Sprintf("%s %s is reserved and not yet built: /v1/openapi.yaml lists what is", r.Method, r.URL.Path),
	})
}
