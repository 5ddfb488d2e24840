package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/cluster"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/hw"
	"github.com/paramedic-ha/paramedic/notify"
)

// restatedWithin is how long a source may take to state its full truth until what it left with the peers in an earlier
// run is given up without it.
const (
	restatedWithin = 30 * time.Second
	restatedPoll   = 100 * time.Millisecond
)

// words are what the peers have to say to the loop, until it takes them: what each record says, once. It is the
// cluster's Home, and blocks nobody.
type words struct {
	log    *slog.Logger
	feed   *feed
	report func(correlate.Event)
	wake   chan struct{} // capacity 1: something waits

	mu sync.Mutex
	said
}

type said struct {
	words   map[gossip.Key]ledger.Saying // by their records
	known   map[string]correlate.Change  // cleared, to be told again
	unknown map[string]*correlate.Alarm  // to be cleared
	claim   uint64
}

var _ cluster.Home = (*words)(nil)

func newWords(log *slog.Logger, feed *feed, report func(correlate.Event)) *words {
	return &words{log: log, feed: feed, report: report, wake: make(chan struct{}, 1)}
}

func (w *words) add(f func(*said)) {
	w.mu.Lock()
	f(&w.said)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *words) take() said {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.said
	w.said = said{}
	return s
}

// Say implements cluster.Home.
func (w *words) Say(word ledger.Saying) {
	w.add(func(s *said) {
		if s.words == nil {
			s.words = make(map[gossip.Key]ledger.Saying)
		}
		s.words[gossip.Key{Kind: word.Kind, ID: word.ID()}] = word
	})
}

// Close implements cluster.Home.
func (w *words) Close(known []correlate.Change, unknown []*correlate.Alarm) {
	w.add(func(s *said) {
		if s.known == nil {
			s.known, s.unknown = make(map[string]correlate.Change), make(map[string]*correlate.Alarm)
		}
		for _, c := range known {
			s.known[c.Alarm.ID] = c
		}
		for _, a := range unknown {
			if old := s.unknown[a.ID]; old == nil || old.Revision.Compare(a.Revision) < 0 {
				s.unknown[a.ID] = a
			}
		}
	})
}

// Claim implements cluster.Home.
func (w *words) Claim(above uint64) { w.add(func(s *said) { s.claim = max(s.claim, above) }) }

// Seen implements cluster.Home.
func (w *words) Seen(changes []correlate.Change, vanished []string) {
	w.feed.addVanished(vanished)
	w.feed.addChanges(changes)
}

// Report implements cluster.Home.
func (w *words) Report(e correlate.Event) { w.report(e) }

// peers is what a loop does for its peers. It is of the loop's goroutine.
type peers struct {
	words    *words
	cluster  *cluster.Cluster
	notifier *notify.Notifier
	log      *slog.Logger
	engine   correlate.Config // of the engine to be, but its term
}

// settle waits for the peers to tell what this host was before, and makes the engine with it.
func (p *peers) settle(ctx context.Context) (*correlate.Engine, error) {
	restored := p.notifier.Restored()
	former, err := p.cluster.Settle(ctx, restored.Term, restored.Term <= 2)
	if err != nil {
		return nil, err
	}
	if former.Term > restored.Term {
		p.log.Info("the peers know this host under a higher term", "own", restored.Term, "taken", former.Term, "alarms", len(former.Alarms))
		if err := p.notifier.SetTerm(former.Term); err != nil {
			p.log.Error("the term of this host is not on its disk", "term", former.Term, "error", err)
		}
	}
	p.notifier.Adopt(former.Alarms, former.Pairs)
	alarms, pairs := p.notifier.Kept()
	if err := p.cluster.Begin(ctx, former.Term, alarms, pairs); err != nil {
		return nil, err
	}
	p.engine.Term = former.Term
	known := lasting(alarms)
	engine := correlate.New(p.engine, known)
	var superseded []*correlate.Alarm // by another life's alarm of the same key: the engine has one of each
	for _, a := range known {
		if _, stands := engine.Alarm(a.ID); !stands && a.Standing() {
			superseded = append(superseded, a)
		}
	}
	if len(superseded) > 0 {
		p.words.Close(nil, superseded)
	}
	return engine, nil
}

// lasting are those that stand, or are dismissed. Of what is kept the newest form of each is known: peers may have missed that one has ended.
func lasting(kept []correlate.Change) []*correlate.Alarm {
	var alarms []*correlate.Alarm
	for _, c := range kept {
		if c.Alarm.Standing() || c.Alarm.Dismissed() {
			alarms = append(alarms, c.Alarm)
		}
	}
	return alarms
}

// listen carries out what the peers have said.
func (l *loop) listen() {
	s := l.peers.words.take()
	now := l.now()
	for _, a := range s.unknown {
		if a.Revision.Term > l.engine.Term() {
			s.claim = max(s.claim, a.Revision.Term)
		}
	}
	if s.claim != 0 {
		l.reterm(now, s.claim)
	}
	for _, word := range slices.SortedFunc(maps.Values(s.words), func(a, b ledger.Saying) int { return a.At.Compare(b.At) }) {
		eff, err := word.Apply(l.engine, now)
		if err != nil { // it has ended meanwhile
			continue
		}
		l.act(eff, now)
		if word.Kind == gossip.KindClear {
			l.peers.log.Info("alarm cleared by hand", "alarm", word.AlarmID, "by", word.By)
		}
	}
	if len(s.known) > 0 {
		var eff correlate.Effects
		for _, c := range s.known {
			eff.Save, eff.Publish = append(eff.Save, c.Alarm), append(eff.Publish, c)
		}
		l.peers.notifier.Publish(eff) // the peers and the streams have it
	}
	if len(s.unknown) > 0 {
		l.act(l.engine.Close(now, slices.Collect(maps.Values(s.unknown))...), now)
	}
}

// usedUp says that a holder of the key has silenced this host at its peers.
func (p *peers) usedUp() {
	p.log.Error("somebody has written under the highest term there is in this host's name: its peers take no word of it any more, and it goes on by itself",
		"remedy", "find out who has the gossip key, and give this host another node.name (docs/security.md)")
}

// reterm takes a term above one that the peers know.
func (l *loop) reterm(now time.Time, above uint64) {
	p := l.peers
	term := cluster.Above(l.engine.Term(), above)
	if term == l.engine.Term() {
		if cluster.UsedUp(above) {
			p.usedUp()
		}
		return
	}
	if above%2 == 1 {
		p.log.Info("peers have spoken for this host, which speaks for itself again under a higher term", "own", l.engine.Term(), "theirs", above, "taken", term)
	} else {
		p.log.Warn("the peers know this host under a term that is not below its own: a higher one is taken",
			"remedy", "unless its disk was set back, look for another agent of this name", "own", l.engine.Term(), "known", above, "taken", term)
	}
	if err := p.notifier.SetTerm(term); err != nil {
		p.log.Error("the term of this host is not on its disk", "term", term, "error", err)
	}
	if err := p.cluster.SetTerm(context.Background(), term); err != nil { // it has a limit of its own
		p.log.Error("the peers are not told of the new term", "term", term, "error", err)
	}
	l.act(l.engine.Reterm(now, term), now)
}

// restating reports whether a source has yet to state its full truth. One that is blind or failed now may do so in a moment;
// one that has nothing to watch never will.
func (a *Agent) restating() bool {
	if !a.loop.turning() {
		return true
	}
	return slices.ContainsFunc(a.supervised(), func(s *supervisor) bool {
		h, _, _ := s.condition()
		return h.Sight != hw.SightAbsent && !a.loop.hasStated(s.source.Name())
	})
}

// giveUpFormer tells the peers when what this host says is all that is true: when every source has stated what it sees, or
// after a while without.
func (a *Agent) giveUpFormer(ctx context.Context) error {
	limit := time.NewTimer(restatedWithin)
	defer limit.Stop()
	poll := time.NewTicker(restatedPoll)
	defer poll.Stop()
	for waits := true; waits; {
		select {
		case <-poll.C:
			waits = a.restating()
		case <-limit.C:
			waits = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := a.loop.call(ctx, func(time.Time) {}); err != nil { // what was stated is with the cluster
		return err
	}
	if err := a.cluster.Restated(ctx); err != nil && !errors.Is(err, gossip.ErrStopped) {
		return fmt.Errorf("tell the peers that all is said: %w", err)
	}
	<-ctx.Done()
	return ctx.Err()
}
