package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

const (
	maxNotification = 4 << 20
	// signatureAge is how far a notification's timestamp may be from now (Standard Webhooks 1.0 leaves it open; its
	// libraries take five minutes).
	signatureAge = 5 * time.Minute
)

type receiveCommand struct {
	Listen     string        `help:"Where to listen." default:"127.0.0.1:8088" placeholder:"ADDR"`
	SecretFile string        `help:"Check signatures with the secret in this file, and refuse what does not match." placeholder:"FILE"`
	Count      int           `help:"End after so many notifications; 0: never." placeholder:"N"`
	Status     int           `help:"Misbehave: answer notifications with this status." default:"204" placeholder:"CODE"`
	RetryAfter string        `help:"Misbehave: send this as Retry-After." placeholder:"SECONDS"`
	Delay      time.Duration `help:"Misbehave: answer so much later." placeholder:"DURATION"`
}

// Run serves until it is interrupted, or Count is reached.
func (c *receiveCommand) Run(s *session) error {
	if c.Status < 200 || c.Status > 599 {
		return &exitError{exitUsage, fmt.Errorf("--status %d: want 200 to 599", c.Status)}
	}
	r := &receiver{command: c, out: s.out, now: time.Now, enough: make(chan struct{})}
	if c.SecretFile != "" {
		secret, problem := config.ReadSecret(c.SecretFile)
		if problem != nil {
			return fmt.Errorf("secret file %s: %s: %s", c.SecretFile, problem.Message, problem.Remedy)
		}
		r.secret = secret
	}
	listener, err := new(net.ListenConfig).Listen(s.ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{
		Handler:           r,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       10 * time.Minute, // senders keep their connection warm
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(slog.NewTextHandler(s.Stderr, nil), slog.LevelWarn),
	}
	fmt.Fprintf(s.Stderr, "listening on http://%s/\n", listener.Addr())
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-s.ctx.Done():
	case <-r.enough:
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err = server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) { // a connection that a sender keeps warm, on which it never said anything
		err = server.Close()
	}
	if err != nil {
		return fmt.Errorf("stop serving: %w", err)
	}
	return r.out.failed()
}

// receiver is a consumer: it checks, prints and answers.
type receiver struct {
	command *receiveCommand
	secret  notify.Secret
	now     func() time.Time
	enough  chan struct{} // closed when Count notifications have come

	mu    sync.Mutex // of what follows
	out   *printer
	count int
}

// notification is what a receiver reads of one, in the native form.
type notification struct {
	ID      string `json:"id"`
	Source  string `json:"source"`
	Type    string `json:"type"`
	Subject string `json:"subject"`
	Data    struct {
		Challenge string `json:"challenge"`
		Text      string `json:"text"`
		Reporter  string `json:"reporter"`
		Alarm     struct {
			ID            string `json:"id"`
			Revision      string `json:"revision"`
			Severity      string `json:"severity"`
			Confidence    string `json:"confidence"`
			Condition     string `json:"condition"`
			ProbableCause string `json:"probable_cause"`
			Text          string `json:"text"`
		} `json:"alarm"`
		Affected []struct {
			Resource string `json:"resource"`
			Name     string `json:"name"`
			State    string `json:"state"`
		} `json:"affected"`
		Timeline map[string]time.Time `json:"timeline"`
	} `json:"data"`
}

// received is one line of -o json.
type received struct {
	Received   time.Time          `json:"received"`
	Signature  string             `json:"signature"` // good, bad or unchecked
	Error      string             `json:"error,omitempty"`
	Type       string             `json:"type"`
	Severity   string             `json:"severity"`
	Confidence string             `json:"confidence,omitempty"`
	Reporter   string             `json:"reporter,omitempty"`
	Subject    string             `json:"subject"`
	Affected   []string           `json:"affected"`
	Latency    map[string]float64 `json:"latency_ms"` // since each stage that was reached
	Event      json.RawMessage    `json:"event,omitempty"`
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	at := r.now()
	switch request.Method {
	case http.MethodPost:
	case http.MethodOptions: // the handshake of CloudEvents' HTTP 1.1 Web Hooks, 4
		if origin := request.Header.Get("WebHook-Request-Origin"); origin != "" {
			w.Header().Set("WebHook-Allowed-Origin", origin)
			w.Header().Set("WebHook-Allowed-Rate", "*")
		}
		w.Header().Set("Allow", "POST, OPTIONS")
		return
	default:
		w.Header().Set("Allow", "POST, OPTIONS")
		http.Error(w, "notifications are POSTed here", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxNotification))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "the body breaks off", http.StatusBadRequest)
		return
	}
	n, line, status := r.read(request.Header, body, at)
	if status == 0 && n.Type == format.TypeVerification {
		// The sender asks whether we want this: the answer is its challenge.
		w.Header().Set("Content-Type", "application/json")
		answer, _ := json.Marshal(map[string]string{"challenge": n.Data.Challenge}) // a map of strings always marshals
		_, _ = w.Write(answer)
		r.print(n, line, false)
		return
	}
	if status == 0 {
		status = r.command.Status
		if r.command.RetryAfter != "" {
			w.Header().Set("Retry-After", r.command.RetryAfter)
		}
	}
	if !wait(request.Context(), r.command.Delay) {
		return // the sender has gone
	}
	w.WriteHeader(status)
	r.print(n, line, true)
}

// read checks one notification. The status is 0 when it is a good one.
func (r *receiver) read(header http.Header, body []byte, at time.Time) (n notification, line received, status int) {
	line = received{Received: at, Signature: "unchecked", Affected: []string{}, Latency: map[string]float64{}}
	if !r.secret.IsZero() {
		line.Signature = "good"
		if err := notify.Verify(header, body, r.secret, signatureAge, at); err != nil {
			line.Signature, line.Error = "bad", err.Error()
			return n, line, http.StatusUnauthorized
		}
	}
	if err := json.Unmarshal(body, &n); err != nil {
		line.Error = "it is no notification in the native form: " + err.Error()
		return n, line, http.StatusBadRequest
	}
	line.Type, line.Severity, line.Subject, line.Event = n.Type, n.Data.Alarm.Severity, n.Subject, body
	line.Confidence, line.Reporter = n.Data.Alarm.Confidence, n.Data.Reporter
	for _, d := range n.Data.Affected {
		line.Affected = append(line.Affected, cmp.Or(d.Name, d.Resource))
	}
	for stage, t := range n.Data.Timeline {
		line.Latency[stage] = inMilliseconds(at.Sub(t))
	}
	return n, line, 0
}

// print writes one line and counts it.
func (r *receiver) print(n notification, line received, counts bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out.format != "table" {
		_ = r.out.item(line) // a failed write is told when Run ends
	} else {
		r.out.line(describe(r.out, n, line))
	}
	if counts {
		r.count++
		if r.count == r.command.Count {
			close(r.enough)
		}
	}
}

// ofWhole reports whether a notification is about a whole host or zone, for which others may speak, surely or not.
func ofWhole(subject string) bool {
	kind, _, _ := strings.Cut(subject, "/")
	return (kind == "host" || kind == "zone") && strings.Count(subject, "/") == 1
}

// describe is the line for people.
func describe(p *printer, n notification, line received) string {
	parts := []string{line.Received.In(p.now().Location()).Format("15:04:05.000")}
	if line.Error != "" {
		return strings.Join(append(parts, "REFUSED:", word(line.Error)), " ")
	}
	parts = append(parts, word(strings.TrimPrefix(n.Type, "paramedic.")))
	if a := n.Data.Alarm; a.ID != "" {
		subject := word(n.Subject)
		if ofWhole(n.Subject) {
			subject += " (" + word(a.Confidence) + ", says " + word(n.Data.Reporter) + ")"
		}
		parts = append(parts, p.paint(word(a.Severity)), word(a.Condition), "on", subject+":")
	}
	if text := cmp.Or(n.Data.Alarm.Text, n.Data.Text); text != "" {
		parts = append(parts, word(text))
	}
	if len(line.Affected) > 0 {
		var names []string
		for _, name := range line.Affected {
			names = append(names, word(name))
		}
		parts = append(parts, "["+strings.Join(names, ", ")+"]")
	}
	for _, stage := range []string{"T00", "T01", "T08"} {
		if ms, ok := line.Latency[stage]; ok {
			parts = append(parts, stage+"+"+strconv.FormatFloat(ms, 'f', 1, 64)+"ms")
		}
	}
	if line.Signature != "unchecked" {
		parts = append(parts, "signature "+line.Signature)
	}
	return strings.Join(parts, " ")
}
