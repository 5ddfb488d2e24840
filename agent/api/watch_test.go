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
	"slices"
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
	return c.stream(path, lastEventID)
}

// stream is watch with a path of its own.
func (c *client) stream(path, lastEventID string) *stream {
	c.t.Helper()
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
			schema := map[string]string{"alarm": "WatchEvent", "gone": "WatchGone", "reset": "WatchReset", "synced": "WatchSynced"}[e.event]
			if err := s.c.doc.validate([]string{"components", "schemas", schema}, []byte(e.data)); err != nil {
				s.c.t.Error(err)
			}
			return e
		}
	}
}

// expect reads the next event and says what it told, as "transition resource", or by its name.
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
		if w.Snapshot {
			got = "standing: " + got
		}
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
	if id, err := parseEventID(e.id); err != nil || id.term != h.notifier.Restored().Term || id.seq != 2 || id.node != "cmp-1" || id.at == 0 {
		t.Errorf("id %s: %+v, %v", e.id, id, err)
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
	id := s.place()
	s.body.Close()
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	c.watch("", id).expect("raised nic/mgmt0")
}

// place reads on to an id without an event.
func (s *stream) place() string {
	s.c.t.Helper()
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			s.c.t.Fatalf("the stream does not say where it is: %v", err)
		}
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "id: "); ok {
			return id
		}
	}
}

func TestAWatchThatCannotGoOnGivesThePresentTruth(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)
	h.carrier("nic/eth0", correlate.StatusOK)
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	h.forget()
	term := h.notifier.Restored().Term
	for _, since := range []string{
		fmt.Sprintf("%d.1", term),                                       // no longer held
		fmt.Sprintf("%d.9", term),                                       // never given out
		fmt.Sprintf("%d.3", term+2),                                     // of another run of the agent
		fmt.Sprintf("%d.3@cmp-2", term),                                 // of another agent, which counts by itself
		fmt.Sprintf("%d.3.%d@cmp-2", term, h.now.Add(time.Hour).Unix()), // who saw the end of the other alarm
	} {
		s := c.watch(since, "")
		s.expect("reset")
		s.expect("standing: raised nic/mgmt0")
		synced := s.expect("synced")
		if synced.data != `{"standing":1}` {
			t.Errorf("after %s: %s", since, synced.data)
		}
		h.carrier("nic/mgmt0", correlate.StatusOK)
		s.expect("cleared nic/mgmt0")
		s.body.Close()
		h.carrier("nic/mgmt0", correlate.StatusFailed)
		s = c.watch(synced.id, "") // from where it was then
		s.expect("cleared nic/mgmt0")
		s.expect("raised nic/mgmt0")
		s.body.Close()
		h.forget()
	}
	s := c.watch(fmt.Sprintf("%d.3.%d@cmp-2", term, h.now.Unix()), "") // who may not have seen the ends
	s.expect("reset")
	for _, want := range []string{"eth0", "mgmt0", "mgmt0", "mgmt0", "mgmt0", "mgmt0"} {
		s.expect("standing: cleared nic/" + want)
	}
	s.expect("standing: raised nic/mgmt0")
	s.expect("synced")
}

func TestAWatchStartsWithWhatStandsWhenAsked(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	s := c.stream("/v1/watch?snapshot=true&host=cmp-2", "")
	s.expect("reset")
	s.expect("standing: raised nic/eth0")
	s.expect("standing: raised nic/eth0.7")
	id := s.expect("synced").id
	h.carrier("nic/eth0", correlate.StatusFailed) // of cmp-1
	again := *h.cluster.alarms[0]
	again.Revision.Counter++
	again.Last = correlate.Changed
	h.set(func() {
		h.tell(SeqChange{Change: correlate.Change{Alarm: h.cluster.alarms[1]}, What: "raised"}) // which it has been given
		h.tell(SeqChange{Change: correlate.Change{Alarm: &again}, What: "changed"})
	})
	s.expect("changed nic/eth0")
	h.set(func() {
		h.tell(SeqChange{Change: correlate.Change{Alarm: &correlate.Alarm{ID: "unheard-of"}}, What: Vanished})
		h.tell(SeqChange{Change: correlate.Change{Alarm: h.cluster.alarms[1]}, What: Vanished})
	})
	if gone := s.expect("gone"); gone.data != `{"id":"member","revision":"8.3"}` {
		t.Errorf("gone: %s", gone.data)
	}
	s.body.Close()
	s = c.stream("/v1/watch?snapshot=true&host=cmp-2", id) // not again: there is an id
	s.expect("raised nic/eth0.7")
	s.expect("changed nic/eth0")
	s.expect("gone")
}

// What was shown is followed to its end, or to where it leaves what was asked for; what was not shown has no end.
func TestAFilteredWatchTellsWhatLeaves(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	at := func(n uint64, severity correlate.Severity, last correlate.Transition) SeqChange {
		return SeqChange{What: string(last), Change: correlate.Change{Alarm: &correlate.Alarm{
			ID: "a", Key: correlate.Key{Home: "cmp-2", Resource: "nic/eth9", Condition: correlate.CondCarrier}, Last: last, Severity: severity,
			Revision: correlate.Revision{Term: 4, Counter: n}, Confidence: correlate.ConfidenceConfirmed, EventType: correlate.TypeCommunications,
			AbstractCause: "network",
		}}}
	}
	s := c.stream("/v1/watch?min_severity=major", "")
	ends := c.stream("/v1/watch?min_severity=major&state=cleared", "")
	other := c.stream("/v1/watch?resource=nic/eth8", "")
	first := s.place()
	for i, severity := range []correlate.Severity{
		correlate.SeverityMinor, correlate.SeverityMajor, correlate.SeverityMajor, correlate.SeverityWarning, correlate.SeverityMinor, correlate.SeverityCritical,
	} {
		h.set(func() { h.tell(at(uint64(i), severity, correlate.Changed)) })
	}
	h.set(func() { h.tell(at(9, correlate.SeverityCleared, correlate.Cleared)) })
	want := []string{"changed nic/eth9", "changed nic/eth9", "gone", "changed nic/eth9", "cleared nic/eth9"}
	for _, w := range want {
		s.expect(w)
	}
	ends.expect("cleared nic/eth9")
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	if n := len(get[AlarmPage](c, "GET", "/v1/alarms?state=cleared&min_severity=critical", nil, 200).Alarms); n != 1 {
		t.Errorf("%d alarms were critical and have cleared, want 1", n)
	}
	c.stream("/v1/watch?resource=nic/mgmt0", first).expect("raised nic/mgmt0")
	s = c.stream("/v1/watch?min_severity=major", first) // the same again for who comes back
	for _, w := range want {
		s.expect(w)
	}
	h.set(func() { // nothing of it was shown
		minor := at(10, correlate.SeverityMinor, correlate.Raised)
		minor.Change.Alarm.ID = "b"
		h.tell(minor)
		minor = at(11, correlate.SeverityCleared, correlate.Cleared)
		minor.Change.Alarm.ID = "b"
		h.tell(minor)
		last := at(12, correlate.SeverityMajor, correlate.Raised)
		last.Change.Alarm.ID, last.Change.Alarm.Key.Resource = "c", "nic/eth8"
		h.tell(last)
	})
	s.expect("raised nic/eth8")
	other.expect("raised nic/eth8")
}

func TestAWatchTellsOfAcknowledgements(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)
	s := c.watch("", "")
	id := get[AlarmPage](c, "GET", "/v1/alarms", nil, 200).Alarms[0].ID
	get[Alarm](c, "POST", "/v1/alarms/"+id+"/ack", AckRequest{Comment: "on my way"}, 200)
	s.expect("acknowledged nic/eth0")
	h.carrier("nic/eth0", correlate.StatusOK)
	s.expect("cleared nic/eth0")
	life := get[AlarmLife](c, "GET", "/v1/alarms/"+id, nil, 200)
	var steps []string
	for _, step := range life.History {
		steps = append(steps, step.What+" "+step.Severity)
	}
	if !slices.Equal(steps, []string{"raised critical", "acknowledged critical", "cleared cleared"}) || life.History[1].Text != "on my way" || life.State != "cleared" {
		t.Errorf("%v %+v", steps, life)
	}
}

func TestAnIdleWatchHearsAHeartbeatAndWhereItIs(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	c.server.heartbeat = time.Millisecond
	s := c.stream("/v1/watch?resource=nic/other", "")
	first := s.place()
	h.carrier("nic/eth0", correlate.StatusFailed) // nothing to see
	if id := s.place(); id == first {
		t.Errorf("it is still at %s", id)
	}
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == ": still here\n" {
			return
		}
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
