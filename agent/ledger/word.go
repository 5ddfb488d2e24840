package ledger

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

// Saying is a word about an alarm: KindAck says that it is known, KindComment something about it, KindClear that it is over.
type Saying struct {
	Kind    gossip.Kind
	AlarmID string
	By      string
	Text    string
	At      time.Time
}

// Apply carries it out at the home of the alarm. The error is correlate.ErrNoAlarm when no such alarm stands there.
func (s Saying) Apply(e *correlate.Engine, now time.Time) (correlate.Effects, error) {
	switch s.Kind {
	case gossip.KindComment:
		return e.Comment(now, s.AlarmID, s.comment())
	case gossip.KindClear:
		return e.Clear(now, s.AlarmID, s.By, s.Text)
	default:
		return e.Ack(now, s.AlarmID, s.By, s.Text)
	}
}

func (s Saying) comment() correlate.Comment {
	return correlate.Comment{By: s.By, Text: s.Text, At: s.At.Round(0).UTC()}
}

// ID is that of its record. Of two acknowledgements of an alarm the later one counts; each comment is one of its own.
func (s Saying) ID() string {
	if s.Kind != gossip.KindComment {
		return s.AlarmID
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d", s.By, s.Text, s.At.UnixNano()))
	return pairID(fmt.Sprintf("%x", sum[:8]), s.AlarmID)
}

// Show is an alarm as it will be when its home has heard the word. What is over is shown as standing until its home says so,
// with ByHand.
func (s Saying) Show(a *correlate.Alarm) *correlate.Alarm {
	with := *a
	switch s.Kind {
	case gossip.KindComment:
		if !a.Said(s.comment()) {
			with.Comments = correlate.WithComment(a.Comments, s.comment())
		}
	case gossip.KindClear:
		with.ByHand = &correlate.HandClear{By: s.By, Comment: s.Text, At: s.At}
	default:
		with.Ack = &correlate.Acknowledgement{By: s.By, Comment: s.Text, At: s.At}
	}
	return &with
}

// heard reports whether an alarm shows what was said.
func (s Saying) heard(a *correlate.Alarm) bool {
	switch s.Kind {
	case gossip.KindComment:
		return a.Said(s.comment())
	case gossip.KindClear:
		return !a.Standing()
	default:
		return a.Ack != nil && a.Ack.By == s.By && a.Ack.Comment == s.Text
	}
}

// ErrManyWords says that the home of an alarm has yet to hear as many comments as it would keep.
var ErrManyWords = errors.New("the host of the alarm has not heard the last comments yet, and there are as many as it keeps")

// Say notes a word about an alarm of another host, whose home makes it its own. The error is correlate.ErrNoAlarm when none
// such stands, or ErrManyWords.
func (l *Ledger) Say(now time.Time, s Saying) (Orders, error) {
	l.begin(now)
	a := l.foreign(s.AlarmID)
	if a == nil || !a.Alarm.Standing() {
		return l.finish(), fmt.Errorf("alarm %q: %w", s.AlarmID, correlate.ErrNoAlarm)
	}
	if s.Kind == gossip.KindComment && len(l.words[s.AlarmID]) >= correlate.MaxComments {
		return l.finish(), fmt.Errorf("alarm %q: %w", s.AlarmID, ErrManyWords)
	}
	b, err := l.codec.encode(Word{Home: a.Alarm.Key.Home, By: cut(s.By, maxError), Comment: cut(s.Text, maxComment), At: s.At})
	if err != nil {
		return l.finish(), fmt.Errorf("alarm %q: %w", s.AlarmID, err)
	}
	l.share(s.Kind, s.ID(), b)
	return l.finish(), nil
}

// readWord takes up what was said of an alarm, or that its home has heard it.
func (l *Ledger) readWord(rec gossip.Record, live bool) error {
	alarm := rec.ID
	if rec.Kind == gossip.KindComment {
		_, alarm = splitPair(rec.ID)
	}
	was := l.words[alarm][rec.Key]
	if delete(l.words[alarm], rec.Key); len(l.words[alarm]) == 0 {
		delete(l.words, alarm)
	}
	if !live {
		return nil
	}
	w := word{version: rec.Version, ordered: was.ordered && was.version == rec.Version}
	if err := l.codec.decode(rec.Payload, &w.Word); err != nil {
		return err
	}
	w.By, w.Comment = cut(w.By, maxError), cut(w.Comment, maxComment)
	if l.words[alarm] == nil {
		l.words[alarm] = map[gossip.Key]word{}
	}
	l.words[alarm][rec.Key] = w
	l.answer(alarm)
	return nil
}

func (w *word) saying(k gossip.Kind, alarm string) Saying {
	return Saying{Kind: k, AlarmID: alarm, By: w.By, Text: w.Comment, At: w.At}
}

// wordKeys are the records of the words about an alarm, in the order in which they were said.
func (l *Ledger) wordKeys(alarm string) []gossip.Key {
	words := l.words[alarm]
	return slices.SortedFunc(maps.Keys(words), func(a, b gossip.Key) int {
		return cmp.Or(words[a].At.Compare(words[b].At), cmp.Compare(a.Kind, b.Kind), strings.Compare(a.ID, b.ID))
	})
}

// answer carries out the words of other hosts about an alarm of ours; when the alarm shows one, or has ended, its record goes.
func (l *Ledger) answer(alarm string) {
	if !l.begun {
		return
	}
	o := l.alarms[alarm]
	for _, k := range l.wordKeys(alarm) {
		w := l.words[alarm][k]
		s := w.saying(k.Kind, alarm)
		switch {
		case w.Home != l.cfg.Node:
		case o == nil || !o.change.Alarm.Standing() || s.heard(o.change.Alarm):
			if delete(l.words[alarm], k); len(l.words[alarm]) == 0 {
				delete(l.words, alarm)
			}
			l.insist(Write{Kind: k.Kind, ID: k.ID, Delete: true})
		case !w.ordered:
			w.ordered = true
			l.words[alarm][k] = w
			l.out.Said = append(l.out.Said, s)
		}
	}
}

// shownAlarm is an alarm with the words that its home may not have heard yet.
func (l *Ledger) shownAlarm(a *correlate.Alarm) *correlate.Alarm {
	if len(l.words[a.ID]) == 0 || !a.Standing() {
		return a
	}
	for _, k := range l.wordKeys(a.ID) {
		w := l.words[a.ID][k]
		if s := w.saying(k.Kind, a.ID); w.Home == a.Key.Home && !s.heard(a) {
			a = s.Show(a)
		}
	}
	return a
}

// saysMore reports whether of two forms of one revision old is the later: a word was said in between, or it is dismissed no more.
func saysMore(old, a *correlate.Alarm) bool {
	return old.Ack != nil && a.Ack == nil || len(old.Comments) > len(a.Comments) || a.Dismissed() && !old.Dismissed()
}
