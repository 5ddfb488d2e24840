package api

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// stream is a watch as a client reads it.
type stream struct {
	c     *client
	body  io.ReadCloser
	lines *bufio.Reader
}

type streamed struct{ event, id, data string }

// watch opens a stream and waits until it runs.
func (c *client) watch(since, lastEventID string) *stream {
	c.t.Helper()
	path := "/v1/watch"
	if since != "" {
		path += "?since=" + since
	}
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { res.Body.Close() })
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		c.t.Fatalf("watch: %d %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	s := &stream{c: c, body: res.Body, lines: bufio.NewReader(res.Body)}
	if line, err := s.lines.ReadString('\n'); err != nil || line != ": watching\n" {
		c.t.Fatalf("watch begins with %q: %v", line, err)
	}
	return s
}

// next reads an event and holds its data against the document.
func (s *stream) next() streamed {
	s.c.t.Helper()
	var e streamed
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			s.c.t.Fatalf("the stream ended in an event: %v", err)
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "event":
			e.event = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			if e.event == "" {
				continue
			}
			if e.event == "alarm" {
				if err := s.c.doc.validate([]string{"components", "schemas", "WatchEvent"}, []byte(e.data)); err != nil {
					s.c.t.Error(err)
				}
			}
			return e
		}
	}
}

// expect reads the next event and says what it told, as "transition resource".
func (s *stream) expect(want string) streamed {
	s.c.t.Helper()
	e := s.next()
	got := e.event
	if e.event == "alarm" {
		var w WatchEvent
		if err := json.Unmarshal([]byte(e.data), &w); err != nil {
			s.c.t.Fatal(err)
		}
		got = w.Transition + " " + w.Alarm.Resource
	}
	if got != want {
		s.c.t.Fatalf("got %s, want %s", got, want)
	}
	return e
}

func TestAWatchTellsWhatHappensFromNowOn(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)
	s := c.watch("", "")
	h.carrier("nic/eth0", correlate.StatusOK)
	e := s.expect("cleared nic/eth0")
	if want := fmt.Sprintf("%d.2@cmp-1", h.notifier.Restored().Term); e.id != want {
		t.Errorf("id %s, want %s", e.id, want)
	}
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	s.expect("raised nic/mgmt0")
}

func TestAWatchResumesBehindTheLastEvent(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	s := c.watch("", "")
	h.carrier("nic/eth0", correlate.StatusFailed)
	first := s.expect("raised nic/eth0").id
	s.body.Close()
	h.carrier("nic/eth0", correlate.StatusOK)
	h.carrier("nic/mgmt0", correlate.StatusFailed)

	s = c.watch(first, "")
	second := s.expect("cleared nic/eth0").id
	s.expect("raised nic/mgmt0")
	c.watch(first, second).expect("raised nic/mgmt0") // the header wins
}

func TestAWatchThatSawNothingComesBackToWhereItWas(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)
	s := c.watch("", "")
	line, err := s.lines.ReadString('\n')
	id, ok := strings.CutPrefix(strings.TrimSpace(line), "id: ")
	if err != nil || !ok {
		t.Fatalf("the stream does not say where it is: %q, %v", line, err)
	}
	s.body.Close()
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	c.watch("", id).expect("raised nic/mgmt0")
}

func TestAWatchThatMissedSomethingIsToldSo(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)
	h.carrier("nic/eth0", correlate.StatusOK)
	h.forget()
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	term := h.notifier.Restored().Term
	for _, since := range []string{
		fmt.Sprintf("%d.1", term),       // no longer held
		fmt.Sprintf("%d.9", term),       // never given out
		fmt.Sprintf("%d.3", term+2),     // of another run of the agent
		fmt.Sprintf("%d.3@cmp-2", term), // of another agent, which counts by itself
	} {
		s := c.watch(since, "")
		s.expect("lost")
		s.expect("raised nic/mgmt0")
	}
}

func TestAnIdleWatchHearsAHeartbeat(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	c.server.heartbeat = time.Millisecond
	s := c.watch("", "")
	for range 2 { // the id that belongs to ": watching", and the empty line behind it
		if _, err := s.lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	if line, err := s.lines.ReadString('\n'); err != nil || line != ": still here\n" {
		t.Errorf("heard %q: %v", line, err)
	}
}

func TestAWatchThatReadsNothingIsCut(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	c.server.streamWrite = 50 * time.Millisecond
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", c.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream runs", func() bool { return len(c.server.watchers) == 1 })
	other := c.watch("", "")
	status := correlate.StatusFailed
	eventually(t, "the stream is cut", func() bool {
		for range 20 {
			h.carrier("nic/eth0", status)
			other.next() // one that reads is not disturbed
			status = correlate.StatusFailed + correlate.StatusOK - status
		}
		return len(c.server.watchers) == 1
	})
}

func TestStreamsAreLimited(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	for range maxWatchers {
		c.watch("", "")
	}
	if p := c.problem("GET", "/v1/watch", nil, 503); !strings.Contains(p.Detail, "64 streams are open") {
		t.Errorf("%+v", p)
	}
	get[Status](c, "GET", "/v1/status", nil, 200) // the rest goes on
}

func TestRunEndsStreamsAndRemovesTheSocket(t *testing.T) {
	h := newHost(t)
	socket := filepath.Join(t.TempDir(), "api.sock")
	server, err := New(Config{Backend: h, Node: "cmp-1", Socket: socket, Log: slog.New(slog.DiscardHandler), Gatherer: h.metrics})
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, server)
	c := newClient(t, server, socket)
	s := c.watch("", "")
	began := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > shutdownWithin {
		t.Errorf("took %v although nothing held it up", took)
	}
	if _, err := io.ReadAll(s.lines); err != nil {
		t.Errorf("the stream did not end well: %v", err)
	}
	absent(t, socket)
}
