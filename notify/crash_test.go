package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/paramedic-ha/paramedic/correlate"
)

const crashDir, crashURL, crashRound = "PARAMEDIC_TEST_CRASH_DIR", "PARAMEDIC_TEST_CRASH_URL", "PARAMEDIC_TEST_CRASH_ROUND"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		crashChild(dir, os.Getenv(crashURL))
		return
	}
	if dir := os.Getenv(matrixDir); dir != "" {
		matrixChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// crashChild is the agent that gets killed: it publishes revisions without end, and says on standard output what is
// committed.
func crashChild(dir, url string) {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	n, err := New(Config{Node: "cmp-1", Label: "prod", Dir: dir, MaxAge: time.Hour, AllowCallbacks: anywhere, UserAgent: os.Getenv(crashRound)})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	if err := n.SetFile([]Subscription{fileSub("a", url)}); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	go func() {
		look := time.NewTicker(50 * time.Microsecond)
		defer look.Stop()
		term := n.Restored().Term
		standing := slices.Clone(n.Restored().Alarms)
		for counter := uint64(1); ctx.Err() == nil; counter++ {
			var a *correlate.Alarm
			switch {
			case len(standing) < 20:
				a = alarm(fmt.Sprintf("%d.%d", term, counter), counter, correlate.Raised, "p")
				a.Key.Resource = correlate.NewID(correlate.KindNIC, a.ID)
				standing = append(standing, a)
			case rand.IntN(4) == 0:
				old := standing[0]
				standing = standing[1:]
				a = alarm(old.ID, counter, correlate.Cleared)
				a.Key = old.Key
			default:
				i := rand.IntN(len(standing))
				a = alarm(standing[i].ID, counter, correlate.Changed, "p")
				a.Key = standing[i].Key
				standing[i] = a
			}
			a.Revision.Term = term
			a.Text = fmt.Sprintf("said once by term %d at %d: %d", term, counter, rand.Uint64())
			n.Publish(effects(a))
			// Whatever stands in the outbox after this is durable: dispatched, then committed.
			for seen := false; !seen; { // yields: a child that spins takes the CPU from what it waits for
				<-look.C
				n.mu.Lock()
				k, ok := n.alarms[a.ID]
				seen = ok && k.Alarm.Revision.Compare(a.Revision) >= 0 || !ok && !a.Standing()
				n.mu.Unlock()
			}
			if rand.IntN(3) == 0 {
				seq := n.box.put()
				n.box.await(ctx, seq, time.Second)
				n.box.mu.Lock()
				durable := n.box.durable >= seq
				n.box.mu.Unlock()
				if !durable { // it runs not yet, or is slow
					continue
				}
				fmt.Printf("committed %s %s %s\n", a.ID, a.Revision, a.Last)
			}
		}
	}()
	_ = n.Run(ctx)
}

// TestWhatWasCommittedSurvivesKill9 kills a real process at random points, again and again over one outbox. The consumer
// must see the newest committed revision of every alarm (or a newer one), no notification id with two contents, and no
// revision after a newer one, unless the newer one left uncommitted when its millisecond was over and was then lost.
func TestWhatWasCommittedSurvivesKill9(t *testing.T) {
	t.Parallel()
	const rounds = 30
	dir := t.TempDir()
	c := newConsumer(t, nil)
	type occurrence struct {
		alarm string
		term  uint64
	}
	committed, inTerm := map[string]correlate.Revision{}, map[occurrence]correlate.Revision{}
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashDir+"="+dir, crashURL+"="+c.URL, fmt.Sprint(crashRound, "=", round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		note := func() {
			var id, rev, last string
			if n, _ := fmt.Sscanf(lines.Text(), "committed %s %s %s", &id, &rev, &last); n != 3 {
				t.Errorf("round %d: %s", round, lines.Text())
			}
			r, err := correlate.ParseRevision(rev)
			if err != nil {
				t.Error(err)
			}
			committed[id], inTerm[occurrence{id, r.Term}] = r, r
		}
		for after := 1 + rand.IntN(60); after > 0 && lines.Scan(); after-- {
			note()
		}
		if err := cmd.Process.Kill(); err != nil { // SIGKILL
			t.Fatal(err)
		}
		for lines.Scan() { // said before the kill reached it
			note()
		}
		_ = cmd.Wait()
	}
	// A last, quiet run delivers what is still owed.
	cfg, _ := testConfig(t, dir)
	n, _ := start(t, cfg, fileSub("a", c.URL))
	eventually(t, "everything is delivered", func() bool { return len(n.Deliveries("")) == 0 })
	if n.Restored().Term != 2*(rounds+1) {
		t.Errorf("term %d after %d kills", n.Restored().Term, rounds)
	}
	newest, by := map[string]correlate.Revision{}, map[string]string{}
	contents := map[string]string{}
	overtaken := 0
	for _, m := range c.messages() {
		r, err := correlate.ParseRevision(m.event.Data.Alarm.Revision)
		if err != nil {
			t.Fatal(err)
		}
		id := m.event.Data.Alarm.ID
		round := m.header.Get("User-Agent")
		switch was := newest[id]; {
		case r.Compare(was) >= 0:
			newest[id] = r
		case round == by[id]:
			t.Errorf("alarm %s: one run sent %v after %v", id, r, was)
		case inTerm[occurrence{id, was.Term}].Compare(was) >= 0:
			t.Errorf("alarm %s: %v after %v, although that was committed", id, r, was)
		default:
			overtaken++
		}
		by[id] = round
		var full struct {
			Data map[string]json.RawMessage `json:"data"`
		}
		_ = json.Unmarshal(m.body, &full)
		if text := string(full.Data["alarm"]) + string(full.Data["affected"]) + m.event.Time; contents[m.event.ID] == "" {
			contents[m.event.ID] = text
		} else if contents[m.event.ID] != text {
			t.Errorf("notification %s had two contents:\n%s\n%s", m.event.ID, contents[m.event.ID], text)
		}
	}
	for id, r := range committed {
		if newest[id].Compare(r) < 0 {
			t.Errorf("alarm %s: %v was committed, the consumer knows %v", id, r, newest[id])
		}
	}
	t.Logf("%d older revisions came after one that a kill took back", overtaken)
	t.Logf("%d notifications of %d alarms, %d committed revisions checked", len(contents), len(newest), len(committed))
}
