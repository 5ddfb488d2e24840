package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Notification is one request that a Receiver got. It is read with the consumer's own idea of the format, not with
// the agent's types.
type Notification struct {
	Arrived time.Time // when the whole body was there
	Header  http.Header
	Body    []byte
	// Trouble is what a strict consumer objects to: signature, CloudEvents, JSON. Empty when all is well.
	Trouble []string

	ID      string `json:"id"`
	Source  string `json:"source"`
	Type    string `json:"type"`
	Subject string `json:"subject"`
	Data    struct {
		Notification string `json:"notification"`
		Subscription string `json:"subscription"`
		Reporter     string `json:"reporter"`
		Host         string `json:"host"`
		Challenge    string `json:"challenge"`
		Alarm        struct {
			ID            string   `json:"id"`
			Revision      string   `json:"revision"`
			State         string   `json:"state"`
			Confidence    string   `json:"confidence"`
			Severity      string   `json:"severity"`
			Condition     string   `json:"condition"`
			ProbableCause string   `json:"probable_cause"`
			RootCause     bool     `json:"root_cause"`
			Correlated    []string `json:"correlated"`
			Text          string   `json:"text"`
			ClearReason   string   `json:"clear_reason"`
		} `json:"alarm"`
		Affected []struct {
			Resource string `json:"resource"`
			Name     string `json:"name"`
			Project  string `json:"project"`
			State    string `json:"state"`
			Ports    []struct {
				MAC    string `json:"mac"`
				PortID string `json:"port_id"`
			} `json:"ports"`
		} `json:"affected"`
		Evidence map[string]any       `json:"evidence"`
		Timeline map[string]time.Time `json:"timeline"`
	} `json:"data"`
}

// String is one line for failure messages.
func (n Notification) String() string {
	a := n.Data.Alarm
	var names []string
	for _, d := range n.Data.Affected {
		names = append(names, d.Name+"="+d.State)
	}
	return fmt.Sprintf("%s %s %s %s rev %s %s [%s] %q %v", n.Arrived.Format("15:04:05.000"), n.Type, n.Subject, a.Condition,
		a.Revision, a.Severity, strings.Join(names, " "), a.Text, n.Trouble)
}

// Receiver is a consumer: an HTTP server inside a host that keeps all it gets.
type Receiver struct {
	URL string

	server *http.Server
	verify *webhooks.Webhook // nil: unsigned

	mu      sync.Mutex
	got     []Notification
	news    chan struct{} // closed and replaced with each notification
	respond http.HandlerFunc
}

// Receiver starts a consumer on the address; secret (nil: none) is what notifications must be signed with.
func (h *Host) Receiver(addr string, secret []byte) (*Receiver, error) {
	ln, err := h.Listen(addr)
	if err != nil {
		return nil, fmt.Errorf("host %s: receiver: %w", h.Name, err)
	}
	return h.lab.serve(ln, secret)
}

func (l *Lab) serve(ln net.Listener, secret []byte) (*Receiver, error) {
	r := &Receiver{URL: "http://" + ln.Addr().String() + "/", news: make(chan struct{})}
	if secret != nil {
		var err error
		if r.verify, err = webhooks.NewWebhookRaw(secret); err != nil {
			return nil, errors.Join(fmt.Errorf("receiver: secret: %w", err), ln.Close())
		}
	}
	r.server = &http.Server{
		Handler: http.HandlerFunc(r.serve), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), // broken connections are made on purpose
	}
	go func() { _ = r.server.Serve(ln) }() // ends with Close
	l.onClose(r.Close)
	return r, nil
}

// Close stops the consumer at once: what is in flight breaks.
func (r *Receiver) Close() error { return r.server.Close() }

// Respond replaces what the consumer answers after it has kept the notification; nil is 204.
func (r *Receiver) Respond(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.respond = h
}

func (r *Receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 16<<20))
	if err != nil {
		return
	}
	n := Notification{Arrived: time.Now(), Header: req.Header.Clone(), Body: body}
	n.check(r.verify)
	if n.Type == "paramedic.verification" && len(n.Trouble) == 0 { // do you want this? Yes.
		_ = json.NewEncoder(w).Encode(map[string]string{"challenge": n.Data.Challenge})
		return
	}
	r.mu.Lock()
	r.got = append(r.got, n)
	close(r.news)
	r.news = make(chan struct{})
	respond := r.respond
	r.mu.Unlock()
	if respond == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	respond(w, req)
}

// check reads the body as a strict consumer does and notes what is wrong.
func (n *Notification) check(verify *webhooks.Webhook) {
	object := func(what string, err error) {
		if err != nil {
			n.Trouble = append(n.Trouble, what+": "+err.Error())
		}
	}
	object("body", json.Unmarshal(n.Body, n))
	var ce event.Event
	if err := json.Unmarshal(n.Body, &ce); err != nil {
		object("cloudevent", err)
	} else {
		object("cloudevent", ce.Validate())
	}
	if got := n.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/cloudevents+json") {
		object("content type", errors.New(got))
	}
	if id := n.Header.Get("Webhook-Id"); id != n.ID {
		object("webhook-id", fmt.Errorf("%q is not the event's id %q", id, n.ID))
	}
	if verify != nil {
		object("signature", verify.Verify(n.Body, n.Header))
	}
}

// All is what has arrived so far, oldest first.
func (r *Receiver) All() []Notification {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Notification(nil), r.got...)
}

// Forget drops what has arrived so far.
func (r *Receiver) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = nil
}

// Wait returns the first notification, also of the past, that matches. The error lists what arrived instead.
func (r *Receiver) Wait(timeout time.Duration, match func(Notification) bool) (Notification, error) {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for seen := 0; ; {
		r.mu.Lock()
		got, news := r.got, r.news
		r.mu.Unlock()
		for ; seen < len(got); seen++ {
			if match(got[seen]) {
				return got[seen], nil
			}
		}
		select {
		case <-news:
			seen = min(seen, len(r.All())) // Forget may have run
		case <-deadline.C:
			var lines strings.Builder
			for _, n := range got {
				fmt.Fprintf(&lines, "\n  %s", n)
			}
			return Notification{}, fmt.Errorf("no such notification in %v; %d arrived:%s", timeout, len(got), lines.String())
		}
	}
}
