package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// The sender of the matrix: a process with the real engine, outbox and senders, which does what it is told on its standard input and says
// when that is done. It is there to be killed.

const matrixDir, matrixNames, matrixRun = "PARAMEDIC_TEST_MATRIX_DIR", "PARAMEDIC_TEST_MATRIX_NAMES", "PARAMEDIC_TEST_MATRIX_RUN"

// matrixWish is a subscription of the matrix, as the child is given it in subscriptions.json. Of several endpoints each is told.
type matrixWish struct {
	Name      string
	Endpoints []string
	Format    string
}

type matrixSender struct {
	n       *Notifier
	engine  *correlate.Engine
	newest  map[string]*correlate.Alarm
	running context.Context
}

func matrixDomain(i int) correlate.ID {
	return correlate.NewID(correlate.KindDomain, fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
}

func matrixChild(dir string) {
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(1)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "subscriptions.json"))
	var wishes []matrixWish
	if err == nil {
		err = json.Unmarshal(raw, &wishes)
	}
	if err != nil {
		fail(err)
	}
	names := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", os.Getenv(matrixNames))
	}}
	n, err := newNotifier(Config{
		Node: "cmp-1", Label: "prod", Dir: dir, MaxAge: time.Hour, AllowCallbacks: anywhere, UserAgent: os.Getenv(matrixRun),
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}, newDialer(anywhere, names))
	if err != nil {
		fail(err)
	}
	n.box.keepFor = time.Minute // the matrix is about kills, not about processors that are all taken
	s := matrixSender{n: n, engine: correlate.New(correlate.Config{Home: "cmp-1", Term: n.Restored().Term}, n.Restored().Alarms), newest: map[string]*correlate.Alarm{}}
	for _, a := range n.Restored().Alarms {
		s.newest[a.ID] = a
	}
	subs := make([]Subscription, 0, len(wishes))
	for _, w := range wishes {
		s := Subscription{Name: w.Name, Endpoints: w.Endpoints, Format: w.Format, Role: RoleAdmin}
		if len(w.Endpoints) > 1 {
			s.DeliverTo = DeliverAll
		}
		subs = append(subs, s)
	}
	if err := n.SetFile(subs); err != nil {
		fail(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.running = ctx
	done := make(chan struct{})
	go func() { defer close(done); _ = n.Run(ctx) }()
	s.until(n.running.Load)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answer, err := s.obey(lines.Text())
		if err != nil {
			fail(err)
		}
		fmt.Println("done", lines.Text(), answer)
	}
	cancel()
	<-done
}

// until polls: it must not take the processor from what it waits for.
func (s *matrixSender) until(ok func() bool) {
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !ok() {
		<-poll.C
	}
}

func (s *matrixSender) obey(line string) (answer string, err error) {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "world": // one digit for each domain: 1 has crashed
		s.world(rest)
	case "commit":
		s.until(func() bool {
			seq := s.n.box.put()
			s.n.box.mu.Lock()
			defer s.n.box.mu.Unlock()
			return s.n.box.running && s.n.box.durable >= seq
		})
	case "stall": // no commit comes to its end from here on
		s.n.box.writer.Lock()
	case "pause": // nothing is sent from here on
		s.each(func(w *worker) { w.sub.Paused = "by the test" })
	case "freeze": // no answer is noted from here on
		for _, w := range s.n.list() {
			w.mu.Lock()
		}
	case "begun":
		s.until(func() bool { return s.all(func(r pairView) bool { return r.flying || r.tried }) })
	case "noted":
		s.until(func() bool { return s.all(func(r pairView) bool { return r.tried }) })
	case "operator": // mends what waits for one
		for _, sub := range s.n.Subscriptions() {
			if sub.Paused != "" {
				if _, err = s.n.Update(s.running, sub.ID, SubscriptionPatch{Paused: ptr("")}); err != nil {
					return "", err
				}
			}
			if _, err = s.n.RetryAll(s.running, sub.ID); err != nil {
				return "", err
			}
		}
	case "settled":
		s.until(func() bool { return len(s.n.Deliveries("")) == 0 })
	case "truth":
		truth := map[string]string{}
		for id, a := range s.newest {
			if a.Standing() {
				truth[string(a.Key.Resource)] = id + " " + a.Revision.String()
			}
		}
		text, _ := json.Marshal(truth) // can't fail
		return string(text), nil
	default:
		return "", fmt.Errorf("unknown word %q", word)
	}
	return "", nil
}

func (s *matrixSender) world(domains string) {
	now := time.Now()
	d := correlate.Delta{Source: "virt", Full: true}
	for i, c := range domains {
		r := correlate.Resource{ID: matrixDomain(i), Name: fmt.Sprint("instance-", i), Project: "p"}
		r.VNF.ID = fmt.Sprint("vnf-", i)
		d.Set = append(d.Set, r)
		status := correlate.StatusOK
		if c == '1' {
			status = correlate.StatusFailed
		}
		d.Events = append(d.Events, correlate.Event{Source: "virt", Resource: matrixDomain(i), Condition: correlate.CondCrash, Status: status, Occurred: now, Observed: now})
	}
	s.publish(s.engine.Topology(now, d))
	s.n.dispatch()
}

func (s *matrixSender) publish(eff correlate.Effects) {
	for i := range eff.Publish {
		eff.Publish[i].Found = time.Now()
		s.newest[eff.Publish[i].Alarm.ID] = eff.Publish[i].Alarm
	}
	s.n.Publish(eff)
}

func (s *matrixSender) each(do func(*worker)) {
	for _, w := range s.n.list() {
		w.mu.Lock()
		do(w)
		w.mu.Unlock()
	}
}

type pairView struct{ flying, tried bool }

// all reports whether ok holds for all that is owed to anybody who is not paused.
func (s *matrixSender) all(ok func(pairView) bool) bool {
	yes := true
	s.each(func(w *worker) {
		records, flying := w.machine.Records()
		for _, r := range records {
			if w.sub.Paused == "" && w.rests.IsZero() && r.Owed != (correlate.Revision{}) && !ok(pairView{flying[r.AlarmID], r.Parked || r.Attempts > 0}) {
				yes = false
			}
		}
	})
	return yes
}
