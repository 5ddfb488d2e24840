package notify

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// step is where the sender is killed. Before it, one fault was told, or was tried to be; then that one clears and two others come.
type step struct {
	name string
	hold bool     // receivers that answer keep the request until the kill, or until they are let go
	do   []string // words to the sender; "held" and "answered" are waited for here
}

const matrixBefore, matrixThen, matrixAfter = "100", "011", "010"

var matrixSteps = []step{
	{"before the commit", false, []string{"pause", "stall", "world " + matrixThen}},
	{"at the first word before the commit", false, []string{"stall", "world " + matrixThen, "first"}},
	{"sent before the commit", false, []string{"stall", "world " + matrixThen, "begun"}},
	{"after the commit, before sending", false, []string{"pause", "world " + matrixThen, "commit"}},
	{"while the request is in flight", true, []string{"world " + matrixThen, "commit", "begun", "held"}},
	{"after the answer, before it is noted", true, []string{"world " + matrixThen, "commit", "begun", "held", "freeze", "answered"}},
	{"after it is noted", false, []string{"world " + matrixThen, "noted", "commit"}},
}

// matrixForms are the forms in which a behaviour is met: native in all.
func matrixForms(b behaviour) []string {
	switch b.name {
	case "200", "204", "400", "410", "429 for a second", "500", "503", "resets before the answer", "resets in the answer", "resets what it accepts",
		"200 and its body never ends", "hangs after the request", "speaks no HTTP", "its name is gone":
		return []string{"native", "aodh", "alertmanager", "sol"}
	case "404", "503 for a second", "hangs after the connect", "resets in the request":
		return []string{"native", besideAnother}
	}
	return []string{"native"}
}

// besideAnother is form native to two endpoints, of which each is told. The other one is well.
const besideAnother = "native beside another"

// TestNothingIsLostWhateverTheReceiverDoesAndWhereverTheSenderIsKilled is the matrix of delivery.md: receivers that misbehave in every way ×
// the sender, a real process, killed with SIGKILL at each step × forms. Then the receivers turn good, one fault more is over, and the sender starts
// again; an operator tries again what is parked. What each receiver knows then is the truth: both what it knows from requests that it took, and from all
// that it read, for one that fails may have kept it or not.
func TestNothingIsLostWhateverTheReceiverDoesAndWhereverTheSenderIsKilled(t *testing.T) {
	t.Parallel()
	authority, err := newPKI()
	if err != nil {
		t.Fatal(err)
	}
	for n, s := range matrixSteps {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, n, authority)
			truth := m.run(s)
			for _, r := range m.all {
				t.Run(r.title, func(t *testing.T) { r.judge(t, truth) })
			}
		})
	}
}

type matrix struct {
	t     *testing.T
	dir   string
	names *directory
	at    string // of the name server
	all   []*receiver
}

func newMatrix(t *testing.T, number int, authority *pki) *matrix {
	m := &matrix{t: t, dir: t.TempDir(), names: &directory{known: map[string][]string{}}}
	m.at = m.names.serve(t)
	if err := authority.write(filepath.Join(m.dir, "authority.pem")); err != nil {
		t.Fatal(err)
	}
	wishes := []matrixWish{}
	for _, b := range behaviours() {
		for _, form := range matrixForms(b) {
			wish := matrixWish{b.name + ", " + form, nil, form}
			bad := m.receiver(number, b, authority)
			bad.title = wish.Name
			if bad.host != "" {
				bad.host = form + "." + bad.host
				m.names.set(bad.host, b.bad)
			}
			path := "/"
			switch form {
			case "alertmanager":
				path = "/api/v2/alerts"
			case besideAnother:
				wish.Format = "native"
				other := m.receiver(number, behaviour{name: "200", answer: status("200 OK")}, authority)
				other.form, other.title = wish.Format, "the other one of "+wish.Name
				wish.Endpoints = append(wish.Endpoints, other.url(path))
			}
			bad.form = wish.Format
			wish.Endpoints = append(wish.Endpoints, bad.url(path))
			wishes = append(wishes, wish)
		}
	}
	raw, err := json.Marshal(wishes)
	if err == nil {
		err = os.WriteFile(filepath.Join(m.dir, "subscriptions.json"), raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// receiver makes one and opens it. It has an address of its own, which nobody else takes while it is closed: not another step, nor another process
// that runs this test.
func (m *matrix) receiver(number int, b behaviour, authority *pki) *receiver {
	pid := os.Getpid()
	r := &receiver{behaviour: b, pki: authority, addr: fmt.Sprintf("127.%d.%d.%d:17423", 1+pid%250, pid/250%25*10+number, len(m.all)+1)}
	if err := r.open(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(r.close)
	m.all = append(m.all, r)
	return r
}

// run goes through the step and returns what stands at the end: resource → alarm id and revision.
func (m *matrix) run(s step) (truth map[string]string) {
	first := m.start("1")
	first.say("world " + matrixBefore)
	first.say("commit")
	first.say("begun")
	for _, r := range m.all {
		r.mu.Lock()
		if s.hold && r.answer != nil {
			r.gate = make(chan struct{})
		}
		r.mu.Unlock()
	}
	before := m.requests()
	for _, word := range s.do {
		switch word {
		case "first":
			eventually(m.t, "a receiver has been told", func() bool { return m.requests() > before })
		case "held":
			m.wait("all requests are held", func(r *receiver) bool { return r.gate == nil || r.held > 0 || r.pauses() })
		case "answered":
			for _, r := range m.all {
				r.mu.Lock()
				if r.gate != nil {
					close(r.gate)
				}
				r.mu.Unlock()
			}
			m.wait("all are answered", func(r *receiver) bool { return r.gate == nil || r.answered > 0 || r.pauses() || r.silent() })
			for _, r := range m.all {
				r.mu.Lock()
				r.gate = nil
				r.mu.Unlock()
			}
		default:
			first.say(word)
		}
	}
	first.kill()
	return m.end("2", matrixAfter)
}

// end is a last run, with receivers that have turned good; it returns what stands then.
func (m *matrix) end(run, world string) (truth map[string]string) {
	for _, r := range m.all {
		if err := r.turnGood(); err != nil {
			m.t.Fatal(err)
		}
		host, _, _ := net.SplitHostPort(r.addr)
		if r.host != "" {
			m.names.set(r.host, []string{host})
		}
	}
	p := m.start(run)
	p.say("world " + world)
	p.say("operator")
	p.say("settled")
	if err := json.Unmarshal([]byte(p.say("truth")), &truth); err != nil {
		m.t.Fatal(err)
	}
	p.stop()
	for _, r := range m.all {
		r.close()
	}
	if len(truth) != strings.Count(world, "1") {
		m.t.Fatalf("%v stands", truth)
	}
	return truth
}

var matrixRounds = flag.Int("matrix.rounds", 1, "rounds of the matrix with kills at random")

// TestNothingIsLostWhenTheSenderIsKilledAtRandom: the same receivers, and a sender that is killed again and again, at moments that nobody chose, while things fail
// and are well again.
func TestNothingIsLostWhenTheSenderIsKilledAtRandom(t *testing.T) {
	t.Parallel()
	authority, err := newPKI()
	if err != nil {
		t.Fatal(err)
	}
	for round := range *matrixRounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 0))
			world := func() string {
				digits := make([]byte, 5)
				for i := range digits {
					digits[i] = '0' + byte(random.IntN(2))
				}
				return string(digits)
			}
			m := newMatrix(t, len(matrixSteps), authority)
			t.Logf("seed %d", seed)
			for run := range 4 {
				p := m.start(fmt.Sprint("killed ", run))
				for range 1 + random.IntN(4) {
					p.say("world " + world())
					if random.IntN(2) == 0 {
						p.say("commit")
					}
				}
				before := m.requests()
				look := time.NewTicker(time.Millisecond)
				for more, left := random.IntN(40), random.IntN(30); left > 0 && m.requests() < before+more; left-- { // so many requests later, or ms
					<-look.C
				}
				look.Stop()
				p.kill()
			}
			truth := m.end("last", world())
			for _, r := range m.all {
				t.Run(r.title, func(t *testing.T) { r.judge(t, truth) })
			}
		})
	}
}

// requests is how many have been read by receivers that are told but once of the first fault.
func (m *matrix) requests() (n int) {
	for _, r := range m.all {
		r.mu.Lock()
		if strings.HasPrefix(r.name, "20") {
			n += len(r.got)
		}
		r.mu.Unlock()
	}
	return n
}

// pauses: it is paused by its first answer, and nothing more is sent.
func (r *receiver) pauses() bool { return r.name == "410" }

// silent: it reads, and writes nothing.
func (r *receiver) silent() bool {
	return r.name == "hangs after the request" || r.name == "resets before the answer"
}

func (m *matrix) wait(what string, ok func(*receiver) bool) {
	m.t.Helper()
	eventually(m.t, what, func() bool {
		return !slices.ContainsFunc(m.all, func(r *receiver) bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return !ok(r)
		})
	})
}

// matrixProcess is a running sender.
type matrixProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func (m *matrix) start(run string) *matrixProcess {
	m.t.Helper()
	p := &matrixProcess{t: m.t, cmd: exec.Command(os.Args[0]), lines: make(chan string, 1)}
	p.cmd.Env = append(os.Environ(), matrixDir+"="+m.dir, matrixNames+"="+m.at, matrixRun+"="+run, "SSL_CERT_FILE="+filepath.Join(m.dir, "authority.pem"))
	log, err := os.Create(filepath.Join(m.dir, "log-"+run))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = log.Close()
		if text, err := os.ReadFile(log.Name()); err == nil && m.t.Failed() {
			m.t.Logf("sender %s says:\n%s", run, text)
		}
	})
	p.cmd.Stderr = log
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		m.t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	m.t.Cleanup(func() {
		p.kill()
		<-read
	})
	return p
}

// say has the sender do something, and waits until it is done.
func (p *matrixProcess) say(word string) (answer string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, word); err != nil {
		p.t.Fatal(err)
	}
	select {
	case line := <-p.lines:
		answer, ok := strings.CutPrefix(line, "done "+word+" ")
		if !ok {
			p.t.Fatalf("%s: %q", word, line)
		}
		return answer
	case <-time.After(patience):
		p.t.Fatalf("%s: not done after %v", word, patience)
	}
	return ""
}

func (p *matrixProcess) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill() // SIGKILL
		_ = p.cmd.Wait()
	}
}

func (p *matrixProcess) stop() {
	p.t.Helper()
	_ = p.in.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatal(err)
	}
}

// judge holds what a receiver was told against what stands.
func (r *receiver) judge(t *testing.T, truth map[string]string) {
	taken, all := map[string]string{}, map[string]string{}
	contents, last := map[string]string{}, map[string]correlate.Revision{}
	for _, one := range r.got {
		words, about, err := r.understand(one)
		if err != nil {
			t.Fatalf("%v: %s", err, one.body)
		}
		if was, ok := contents[one.id]; ok && was != about {
			t.Errorf("under the id %s it was told\n%s\nand\n%s", one.id, was, about)
		}
		contents[one.id] = about
		for _, w := range words {
			w.apply(all)
			if one.taken {
				w.apply(taken)
			}
			by := one.run + w.alarm
			if w.revision.Compare(last[by]) < 0 {
				t.Errorf("run %s told %v of %s after %v", one.run, w.revision, w.alarm, last[by])
			}
			last[by] = w.revision
		}
	}
	defer func() {
		for _, one := range r.got {
			if t.Failed() {
				t.Logf("run %s, at %s, taken %v: %.800s", one.run, one.at.Format(time.StampMicro), one.taken, one.body)
			}
		}
	}()
	for what, words := range map[string]map[string]string{"from what it took": taken, "from all that it read": all} {
		knows := byResource(words)
		for resource, k := range knows {
			if _, stands := truth[resource]; !stands && !strings.HasPrefix(k, "-") {
				t.Errorf("%s it believes that %s stands: %s", what, resource, k)
			}
		}
		for resource, want := range truth {
			if got := knows[resource]; got != want && (r.form == "native" || got == "" || strings.HasPrefix(got, "-")) {
				t.Errorf("%s it knows of %s: %q, want %q", what, resource, got, want)
			}
		}
	}
}

// matrixWord is one thing said about one domain.
type matrixWord struct {
	resource, alarm string
	revision        correlate.Revision // zero: the form has none, and the last word counts
	stands          bool
	apart           bool // each alarm counts by itself; else what was said last of the resource does
}

// byResource says of each resource that it knows something of whether any alarm stands.
func byResource(words map[string]string) map[string]string {
	knows := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(words)) {
		resource, _, _ := strings.Cut(key, " ")
		if was, ok := knows[resource]; !ok || strings.HasPrefix(was, "-") {
			knows[resource] = words[key]
		}
	}
	return knows
}

// apply is what a consumer does that drops lower revisions, and takes a higher term for a successor.
func (w matrixWord) apply(knows map[string]string) {
	mark := ""
	if !w.stands {
		mark = "-"
	}
	key := w.resource
	if w.apart {
		key += " " + w.alarm
	}
	if w.revision != (correlate.Revision{}) {
		_, text, _ := strings.Cut(knows[key], " ")
		if known, err := correlate.ParseRevision(text); err == nil && w.revision.Compare(known) < 0 {
			return
		}
	}
	knows[key] = mark + w.alarm + " " + w.revision.String()
}

// understand reads what was told in the receiver's form. about is what may not differ under one id.
func (r *receiver) understand(one *reading) (words []matrixWord, about string, err error) {
	switch r.form {
	case "native":
		var e struct {
			Time string
			Data struct {
				Alarm    json.RawMessage
				Affected json.RawMessage
			}
		}
		var a struct{ ID, Revision, State string }
		var hit []struct{ Resource string }
		if err = json.Unmarshal(one.body, &e); err == nil {
			if err = json.Unmarshal(e.Data.Alarm, &a); err == nil {
				err = json.Unmarshal(e.Data.Affected, &hit)
			}
		}
		if err != nil {
			return nil, "", err
		}
		w := matrixWord{alarm: a.ID, stands: a.State != "cleared"}
		if w.revision, err = correlate.ParseRevision(a.Revision); err != nil || len(hit) != 1 {
			return nil, "", fmt.Errorf("%d affected, %w", len(hit), err)
		}
		w.resource = hit[0].Resource
		return []matrixWord{w}, string(e.Data.Alarm) + string(e.Data.Affected) + e.Time, nil
	case "aodh":
		var e struct {
			Current    string
			ReasonData struct{ Event struct{ Traits [][3]any } } `json:"reason_data"`
		}
		if err = json.Unmarshal(one.body, &e); err != nil {
			return nil, "", err
		}
		traits := map[string]string{}
		for _, tr := range e.ReasonData.Event.Traits {
			traits[fmt.Sprint(tr[0])] = fmt.Sprint(tr[2])
		}
		about = fmt.Sprint(e.Current, traits["state"], traits["instance_id"], traits["alarm"], traits["revision"])
		return []matrixWord{{resource: "domain/" + traits["instance_id"], alarm: traits["alarm"], stands: traits["state"] == "error"}}, about, nil
	}
	if r.form == "sol" {
		return r.understandSOL(one)
	}
	var alerts []struct {
		Labels map[string]string
		EndsAt time.Time
	}
	if err = json.Unmarshal(one.body, &alerts); err != nil {
		return nil, "", err
	}
	for _, a := range alerts {
		w := matrixWord{resource: "domain/" + a.Labels["domain"], alarm: a.Labels["alarm"], stands: a.EndsAt.After(one.at), apart: true}
		words = append(words, w)
		about += fmt.Sprint(a.Labels, w.stands)
	}
	return words, about, nil
}

// understandSOL keeps which VNF an alarm is about: its end does not say that.
func (r *receiver) understandSOL(one *reading) (words []matrixWord, about string, err error) {
	var note struct {
		NotificationType string
		AlarmID          string
		Alarm            struct{ ID, ManagedObjectID, PerceivedSeverity string }
	}
	if err = json.Unmarshal(one.body, &note); err != nil {
		return nil, "", err
	}
	if r.vnfs == nil {
		r.vnfs = map[string]string{}
	}
	w := matrixWord{apart: true}
	switch note.NotificationType {
	case "AlarmNotification":
		number, _ := strings.CutPrefix(note.Alarm.ManagedObjectID, "vnf-")
		w.alarm, w.resource, w.stands = note.Alarm.ID, fmt.Sprintf("domain/00000000-0000-4000-8000-%012s", number), true
		r.vnfs[w.alarm] = w.resource
	case "AlarmClearedNotification":
		w.alarm = note.AlarmID
		if w.resource = r.vnfs[w.alarm]; w.resource == "" {
			w.resource = "of an alarm that it does not know"
		}
	default:
		return nil, "", fmt.Errorf("a notification of type %q", note.NotificationType)
	}
	return []matrixWord{w}, fmt.Sprint(note), nil
}
