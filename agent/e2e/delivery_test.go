package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

func TestADeliveryOutlivesKillMinusNine(t *testing.T) {
	a := consume(t, "a", projectA)
	ag := start(t, a)
	must(t, a.Close()) // the consumer is down
	must(t, w.uplink0.Pull())
	owed := ag.owed("that failed once", func(d delivery) bool { return d.Condition == "carrier" && d.Attempts > 0 })
	must(t, ag.Kill())

	again, err := w.consumers.Receiver(strings.TrimSuffix(strings.TrimPrefix(a.URL, "http://"), "/"), a.key)
	must(t, err)
	a.Receiver = again
	t.Cleanup(func() { _ = again.Close() })
	must(t, ag.Start())
	n := a.hears(t, "raised", "carrier")
	if n.ID != owed.ID {
		t.Errorf("notification %s arrives, %s was owed", n.ID, owed.ID)
	}
	affects(t, n, vmA1, vmA2)
	must(t, w.uplink0.Plug())
	if c := a.hears(t, "cleared", "carrier"); c.Data.Alarm.ID != n.Data.Alarm.ID {
		t.Errorf("another alarm was cleared: %s", c)
	}
	a.heard(t, 2)
}

func TestARestartWithoutChangeTellsNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		end   func(*agent) error
		heard func(*consumer, *testing.T, int)
	}{
		{"stopped", func(a *agent) error { return a.Stop() }, (*consumer).heard},
		{"killed", func(a *agent) error { return a.Kill() }, (*consumer).heardKilled},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := consume(t, "a", projectA)
			ag := start(t, a)
			must(t, w.uplink0.Pull())
			raised := a.hears(t, "raised", "carrier")
			ag.settled(t)
			before := ag.alarms()
			must(t, c.end(ag))
			must(t, ag.Start())
			ag.knows(tinyVMs...)
			// The same fault again would be told before the next one.
			must(t, w.libvirt.KillQEMU(vmA3.Name))
			a.hears(t, "raised", "crash")
			c.heard(a, t, 2)
			if after := ag.alarms(); !slices.ContainsFunc(after, func(s standing) bool { return s.ID == raised.Data.Alarm.ID }) {
				t.Errorf("alarm %s does not stand any more: before %+v, after %+v", raised.Data.Alarm.ID, before, after)
			}
			must(t, w.uplink0.Plug())
			if c := a.hears(t, "cleared", "carrier"); c.Data.Alarm.ID != raised.Data.Alarm.ID {
				t.Errorf("another alarm was cleared: %s", c)
			}
		})
	}
}

func TestAFaultThatEndsWhileTheAgentIsDownIsCleared(t *testing.T) {
	a := consume(t, "a", projectA)
	ag := start(t, a)
	must(t, w.uplink0.Pull())
	raised := a.hears(t, "raised", "carrier")
	ag.settled(t)
	must(t, ag.Kill())
	must(t, w.uplink0.Plug())
	must(t, ag.Start())
	if c := a.hears(t, "cleared", "carrier"); c.Data.Alarm.ID != raised.Data.Alarm.ID {
		t.Errorf("another alarm was cleared: %s", c)
	}
	a.heardKilled(t, 2)
}

// hold makes a consumer keep each notification waiting until the test ends.
func hold(t *testing.T, c *consumer) {
	t.Helper()
	release := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	c.Respond(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
}

func TestASlowOrDeadConsumerDelaysNobody(t *testing.T) {
	slow, dead, a := consume(t, "slow", projectA), consume(t, "dead", projectA), consume(t, "a", projectA)
	hold(t, slow)
	dead.endpoint = "http://10.0.0.99:9/" // nobody answers there, not even with a refusal
	ag := start(t, slow, dead, a)
	for range 3 {
		a.Forget()
		must(t, w.uplink0.Pull())
		a.hears(t, "raised", "carrier")
		must(t, w.uplink0.Plug())
		a.hears(t, "cleared", "carrier")
	}
	slow.hears(t, "raised", "carrier") // it got its own at once, and still keeps us waiting
	ag.owed("to the dead consumer, tried and kept", func(d delivery) bool { return d.State == "pending" && d.Attempts > 0 && d.LastError != "" })
}

// Each misbehaviour is bounded, and visible to the operator; the consumer beside it hears all the same.
func TestAMisbehavingConsumer(t *testing.T) {
	var first sync.Once
	cases := []struct {
		name    string
		respond func(*consumer) http.HandlerFunc
		check   func(t *testing.T, ag *agent, bad *consumer)
	}{
		{
			name: "redirects",
			respond: func(*consumer) http.HandlerFunc {
				return func(rw http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/elsewhere" {
						t.Error("the redirect was followed")
					}
					http.Redirect(rw, r, "/elsewhere", http.StatusTemporaryRedirect)
				}
			},
			check: func(_ *testing.T, ag *agent, _ *consumer) {
				ag.owed("that names the redirect", func(d delivery) bool {
					return strings.Contains(d.LastError, "307") || strings.Contains(d.LastError, "redirect")
				})
			},
		},
		{
			name: "refuses",
			respond: func(*consumer) http.HandlerFunc {
				return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusForbidden) }
			},
			check: func(t *testing.T, ag *agent, bad *consumer) {
				parked := ag.owed("that is parked", func(d delivery) bool { return d.State == "parked" && strings.Contains(d.LastError, "403") })
				bad.Respond(nil)
				ag.post("/v1/deliveries/"+parked.ID+"/retry", nil, http.StatusNoContent)
				ag.settled(t)
			},
		},
		{
			name: "sends a gigabyte",
			respond: func(*consumer) http.HandlerFunc {
				return func(rw http.ResponseWriter, r *http.Request) {
					chunk := make([]byte, 1<<20)
					for range 1 << 10 {
						if _, err := rw.Write(chunk); err != nil {
							return // cut off, as it should be
						}
					}
					t.Error("the agent read a whole gigabyte")
				}
			},
			check: func(t *testing.T, ag *agent, _ *consumer) {
				status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", ag.Process().PID()))
				must(t, err)
				_, peak, _ := strings.Cut(string(status), "VmHWM:")
				var kB int
				if _, err := fmt.Sscan(peak, &kB); err != nil || kB > 200<<10 {
					t.Errorf("the agent's memory went up to %d kB (%v)", kB, err)
				}
			},
		},
		{
			name: "closes early, once",
			respond: func(*consumer) http.HandlerFunc {
				return func(rw http.ResponseWriter, _ *http.Request) {
					first.Do(func() {
						conn, _, err := http.NewResponseController(rw).Hijack()
						if err == nil {
							_ = conn.Close()
						}
					})
				}
			},
			check: func(t *testing.T, _ *agent, bad *consumer) {
				eventually(t, "the notification to be sent again", func() bool { return len(bad.All()) >= 2 }, func() string { return fmt.Sprint(bad.All()) })
				if got := bad.All(); got[0].ID != got[1].ID {
					t.Errorf("sent again under another id: %s, then %s", got[0].ID, got[1].ID)
				}
			},
		},
		{
			name: "is overloaded and says for how long",
			respond: func(c *consumer) http.HandlerFunc {
				return func(rw http.ResponseWriter, _ *http.Request) {
					if len(c.All()) == 1 {
						rw.Header().Set("Retry-After", "1")
						rw.WriteHeader(http.StatusServiceUnavailable)
					}
				}
			},
			check: func(t *testing.T, _ *agent, bad *consumer) {
				eventually(t, "the notification to be sent again", func() bool { return len(bad.All()) >= 2 }, func() string { return fmt.Sprint(bad.All()) })
				got := bad.All()
				if wait := got[1].Arrived.Sub(got[0].Arrived); wait < time.Second || got[0].ID != got[1].ID {
					t.Errorf("sent again after %v (Retry-After: 1), as %s and %s", wait, got[0].ID, got[1].ID)
				}
			},
		},
		{
			name: "is gone for good",
			respond: func(*consumer) http.HandlerFunc {
				return func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusGone) }
			},
			check: func(t *testing.T, ag *agent, bad *consumer) {
				var page struct {
					Subscriptions []struct {
						Name   string `json:"name"`
						Paused string `json:"paused"`
					} `json:"subscriptions"`
				}
				eventually(t, "the subscription to be paused", func() bool {
					ag.get("/v1/subscriptions", &page)
					for _, s := range page.Subscriptions {
						if s.Name == bad.name {
							return s.Paused != ""
						}
					}
					return false
				}, func() string { return fmt.Sprintf("%+v", page) })
				eventually(t, "an alarm about it", func() bool {
					return slices.ContainsFunc(ag.alarms(), func(s standing) bool { return s.Condition == "subscription-failed" })
				}, func() string { return fmt.Sprintf("%+v", ag.alarms()) })
			},
		},
		{
			name: "speaks no TLS",
			respond: func(c *consumer) http.HandlerFunc {
				c.endpoint = strings.Replace(c.URL, "http:", "https:", 1)
				return nil
			},
			check: func(_ *testing.T, ag *agent, _ *consumer) {
				ag.owed("that failed in TLS", func(d delivery) bool {
					return strings.Contains(strings.ToLower(d.LastError), "tls") || strings.Contains(d.LastError, "HTTPS")
				})
			},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bad, good := consume(t, "bad", projectA), consume(t, "good", projectA)
			bad.Respond(c.respond(bad))
			ag := start(t, bad, good)
			must(t, w.uplink0.Pull())
			affects(t, good.hears(t, "raised", "carrier"), vmA1, vmA2)
			c.check(t, ag, bad)
		})
	}
}

// stall listens at a consumer's place and never answers well. Each connection is treated by stage, until the connection's
// peer gives up or the test ends.
func stall(t *testing.T, stage func(net.Conn)) (addr string, free func()) {
	t.Helper()
	ln, err := w.consumers.Listen(consumerAddr + ":0")
	must(t, err)
	var mu sync.Mutex
	var conns []net.Conn
	free = sync.OnceFunc(func() {
		_ = ln.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	t.Cleanup(free)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			go stage(c)
		}
	}()
	return ln.Addr().String(), free
}

// dribble reads what comes and writes head, and then a byte of more each 200 ms, for ever.
func dribble(head, more string) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			return // a spare connection, not used
		}
		if _, err := io.WriteString(c, head); err != nil {
			return
		}
		for i := 0; ; i++ {
			if _, err := c.Write([]byte{more[i%len(more)]}); err != nil {
				return
			}
			<-time.After(200 * time.Millisecond)
		}
	}
}

// However a consumer hangs, its delivery is given up in time, shown with the reason, and tried again until the consumer
// is well; and who stands beside it hears each fault at once.
func TestAConsumerThatHangs(t *testing.T) {
	silent := func(c net.Conn) {
		_ = c.(*net.TCPConn).SetReadBuffer(1) // accepted, never read
	}
	cases := []struct {
		name, scheme, reason string
		stage                func(net.Conn)
	}{
		{"before it reads", "http", "no answer in time", silent},
		{"in the TLS handshake", "https", "tls handshake", silent},
		{"in the header", "http", "no answer in time", dribble("HTTP/1.1 200 OK\r\n", "X-Slow: a\r\n")},
	}
	consumers := make([]*consumer, 0, len(cases)+2)
	free := map[string]func(){}
	for _, c := range cases {
		bad := consume(t, strings.ReplaceAll(c.name, " ", "-"), projectA)
		must(t, bad.Close())
		var addr string
		addr, free[bad.name] = stall(t, c.stage)
		bad.endpoint = c.scheme + "://" + addr + "/"
		consumers = append(consumers, bad)
	}
	// One that hangs in the answer's body has answered: nothing is owed to it.
	body := consume(t, "in-the-body", projectA)
	must(t, body.Close())
	addr, _ := stall(t, dribble("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", "slow"))
	body.endpoint = "http://" + addr + "/"
	good := consume(t, "good", projectA)
	ag := start(t, append(consumers, body, good)...)

	fault := func() {
		t.Helper()
		good.Forget()
		must(t, w.uplink0.Pull())
		n := good.hears(t, "raised", "carrier")
		// Far below what each of the others is waited for.
		if wait := n.Arrived.Sub(n.Data.Timeline["T01"]); wait > 5*time.Second {
			t.Errorf("the consumer beside them was told after %v", wait)
		}
	}
	fault()
	began := time.Now()
	for i, c := range cases {
		bad := consumers[i]
		t.Run(c.name, func(t *testing.T) {
			ag.t = t
			owed := ag.owed("that was given up and is kept", func(d delivery) bool {
				return d.Subscription == bad.name && d.Attempts > 0 && d.State == "pending" && strings.Contains(d.LastError, c.reason)
			})
			t.Logf("given up after %v: %s", time.Since(began).Round(time.Millisecond), owed.LastError)
			if c.scheme == "https" {
				ag.owed("that was tried again", func(d delivery) bool { return d.ID == owed.ID && d.Attempts > 1 })
				return
			}
			free[bad.name]()
			r, err := w.consumers.Receiver(strings.TrimSuffix(strings.TrimPrefix(bad.endpoint, "http://"), "/"), bad.key)
			must(t, err)
			t.Cleanup(func() { _ = r.Close() })
			bad.Receiver = r
			if n := bad.hears(t, "raised", "carrier"); n.ID != owed.ID {
				t.Errorf("notification %s arrives, %s was owed", n.ID, owed.ID)
			}
		})
	}
	ag.t = t
	t.Run("in the body", func(t *testing.T) {
		for _, d := range ag.deliveries() {
			if d.Subscription == body.name {
				t.Errorf("answered, and still owed: %+v", d)
			}
		}
	})
	must(t, w.uplink0.Plug())
	good.hears(t, "cleared", "carrier")
	fault()
}

func TestASubscriptionAnswersWithWhatStandsAndThenTells(t *testing.T) {
	ag := start(t)
	must(t, w.uplink0.Pull())
	eventually(t, "the alarm", func() bool {
		return slices.ContainsFunc(ag.alarms(), func(s standing) bool { return s.Condition == "carrier" && s.Under == "" })
	}, func() string { return fmt.Sprintf("%+v", ag.alarms()) })

	// The ready consumer proves that it wants this, by the signed challenge.
	must(t, w.consumers.WriteFile(lab.Dir+"/secret", secretOf("x"), 0o600))
	var out lab.Buffer
	receive, err := w.consumers.StartWith(nil, &out, w.bin, "receive", "-o", "json", "--listen", consumerAddr+":8099", "--secret-file", lab.Dir+"/secret")
	must(t, err)
	t.Cleanup(func() { _ = receive.Kill() })
	eventually(t, "paramedic receive to listen", func() bool { return strings.Contains(receive.Log(), "listening") }, receive.Log)

	body := map[string]any{
		"name": "x", "endpoints": []string{"http://" + consumerAddr + ":8099/"}, "secret": secretOf("x"), "role": "consumer",
		"filter": map[string]any{"projects": []string{projectA}},
	}
	answer := string(ag.post("/v1/subscriptions", body, http.StatusCreated))
	for _, want := range []string{`"network"`, vmA1.UUID, vmA2.UUID} {
		if !strings.Contains(answer, want) {
			t.Errorf("the snapshot lacks %s: %s", want, answer)
		}
	}
	if strings.Contains(answer, vmB1.UUID) || strings.Contains(answer, secretOf("x")) {
		t.Errorf("the answer tells too much: %s", answer)
	}
	must(t, w.uplink0.Plug())
	eventually(t, "the end of the fault to be told", func() bool { return strings.Contains(out.String(), "paramedic.fault.cleared") }, out.String)
	if strings.Contains(out.String(), `"signature":"bad"`) {
		t.Errorf("a signature is bad: %s", out.String())
	}

	// A callback that proves nothing is not subscribed.
	body["name"], body["endpoints"] = "y", []string{"http://" + consumerAddr + ":1/"}
	if answer, err := ag.Call(http.MethodPost, "/v1/subscriptions", body, http.StatusCreated); err == nil {
		t.Errorf("a callback that nobody answers was subscribed: %s", answer)
	}
}
