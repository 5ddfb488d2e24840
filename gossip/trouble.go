package gossip

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"golang.org/x/time/rate"
)

// TroubleKind is a word for what is wrong between this agent and another.
type TroubleKind string

// The kinds of trouble.
const (
	TroubleKey       TroubleKind = "wrong-key"      // one can't read what the other sends
	TroubleLabel     TroubleKind = "wrong-label"    // the other belongs to another cluster
	TroubleVersion   TroubleKind = "wrong-version"  // the other speaks a protocol that we don't
	TroubleDuplicate TroubleKind = "duplicate-name" // two agents have one name
	TroubleFlood     TroubleKind = "flood"          // the other sends more than we take
	TroubleMalformed TroubleKind = "malformed"      // what the other sends can't be understood
)

// Trouble is one thing that is wrong with one peer, as `status` shows it.
type Trouble struct {
	Kind  TroubleKind
	Peer  string // name of the node if known, else its address
	Text  string // what was seen, and the remedy
	Count uint64
	First time.Time
	Last  time.Time
}

const (
	maxTroubles  = 128         // the one seen least recently goes first
	troubleAgain = time.Minute // between two logs of the same

	enoughHangups = 3 // in the middle of a word; one may be an agent that ends
)

// troubles is safe for several goroutines and blocks nobody.
type troubles struct {
	mu   sync.Mutex
	now  func() time.Time
	all  map[troubleKey]*trouble
	seen map[TroubleKind]uint64 // all, of those too that are forgotten in all
	out  chan<- slog.Record
	lost uint64 // log lines that found out full
}

type troubleKey struct {
	kind TroubleKind
	peer string
}

type trouble struct {
	Trouble
	logged time.Time
}

func newTroubles(out chan<- slog.Record) *troubles {
	return &troubles{now: time.Now, all: map[troubleKey]*trouble{}, seen: map[TroubleKind]uint64{}, out: out}
}

// note counts one, and logs it unless that was done within the last minute.
func (t *troubles) note(kind TroubleKind, peer, text string) {
	peer, text = printable(peer), printable(text)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	key := troubleKey{kind, peer}
	one := t.all[key]
	if one == nil {
		if len(t.all) >= maxTroubles {
			var oldest *trouble
			for _, o := range t.all {
				if oldest == nil || o.Last.Before(oldest.Last) {
					oldest = o
				}
			}
			delete(t.all, troubleKey{oldest.Kind, oldest.Peer})
		}
		one = &trouble{Trouble: Trouble{Kind: kind, Peer: peer, First: now}}
		t.all[key] = one
	}
	one.Text, one.Last = text, now
	one.Count++
	t.seen[kind]++
	if !one.logged.IsZero() && now.Sub(one.logged) < troubleAgain {
		return
	}
	one.logged = now
	r := slog.NewRecord(now, slog.LevelWarn, "trouble with a peer", 0)
	r.AddAttrs(slog.String("kind", string(kind)), slog.String("peer", peer), slog.String("reason", text), slog.Uint64("count", one.Count))
	select {
	case t.out <- r:
	default:
		t.lost++
	}
}

// printable is safe on a terminal: a part of it is what a stranger sent.
func printable(text string) string {
	const enough = 512
	text = strings.ToValidUTF8(text[:min(len(text), enough)], "\ufffd")
	return strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '\ufffd'
		}
		return c
	}, text)
}

func (t *troubles) list() []Trouble {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Trouble, 0, len(t.all))
	for _, one := range t.all {
		all = append(all, one.Trouble)
	}
	slices.SortFunc(all, func(a, b Trouble) int {
		return cmp.Or(strings.Compare(string(a.Kind), string(b.Kind)), strings.Compare(a.Peer, b.Peer))
	})
	return all
}

// counts are how often there was trouble of each kind, ever.
func (t *troubles) counts() map[TroubleKind]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.seen)
}

// Remedies.
const (
	keyText = "one of us can't open what the other sends: their gossip keys have none in common, or one has none at all. " +
		"Give all agents the same cluster.key_file; if the key was changed while one was away, put the one in use into its cluster.key_file as the first line and restart it"
	closedText = "it hangs up without an answer: most likely its cluster.label is not ours, or something else listens there. " +
		"Give all agents of a cluster the same cluster.label"
	versionText = "it speaks a version of the protocol that not all here understand. Upgrade one version at a time"
)

// libraryLog is the slog handler behind the *log.Logger that memberlist writes to, often under its lock: it takes the
// level out of the line, finds known troubles, and passes the rest on without ever blocking.
type libraryLog struct {
	troubles *troubles
	label    string
	limit    *rate.Limiter
	out      chan<- slog.Record
	min      slog.Leveler

	mu      sync.Mutex
	hangups map[string]int // by address
}

// hungUp reports whether an address has closed so many connections before it said anything that this is no agent that ended
// in the middle.
func (l *libraryLog) hungUp(addr string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hangups == nil || len(l.hangups) >= maxTroubles {
		l.hangups = make(map[string]int)
	}
	l.hangups[addr]++
	return l.hangups[addr] >= enoughHangups
}

func (l *libraryLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *libraryLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *libraryLog) WithGroup(string) slog.Handler            { return l }

func (l *libraryLog) Handle(_ context.Context, r slog.Record) error {
	text, level := r.Message, slog.LevelDebug
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if word, line, ok := strings.Cut(rest, "] "); ok {
			text = strings.TrimPrefix(line, "memberlist: ")
			switch word { // its errors are a network's ordinary life
			case "ERR", "ERROR":
				level = slog.LevelWarn
			case "WARN":
				level = slog.LevelInfo
			}
		}
	}
	kind, remedy := l.classify(text)
	if kind == TroubleLabel && strings.Contains(text, `label "": `) && !l.hungUp(source(text)) { // the library takes no word for an empty one
		kind = ""
	}
	if kind != "" {
		l.troubles.note(kind, source(text), remedy)
		return nil
	}
	if level < l.min.Level() || !l.limit.Allow() {
		return nil
	}
	out := slog.NewRecord(r.Time, level, "memberlist", 0)
	out.AddAttrs(slog.String("reason", text))
	select {
	case l.out <- out:
	default:
	}
	return nil
}

// classify knows the sentences of memberlist v0.7.0; the tests of wrong keys, labels and versions hold it to them.
func (l *libraryLog) classify(text string) (TroubleKind, string) {
	switch {
	case strings.Contains(text, "unacceptable label"):
		theirs := "none"
		if _, rest, ok := strings.Cut(text, "unacceptable label "); ok {
			if theirs, _, ok = strings.Cut(rest, ": from="); !ok {
				theirs, _, _ = strings.Cut(rest, ": ")
			}
		}
		return TroubleLabel, "its cluster.label is " + theirs + ", ours is \"" + l.label + "\". Give all agents of a cluster the same cluster.label, or take it out of cluster.join"
	case strings.Contains(text, "failed to join"):
		return "", "" // whoever asked is told
	case strings.Contains(text, "Decrypt packet failed"),
		strings.Contains(text, "no installed keys could decrypt"),
		strings.Contains(text, "unsupported encryption version"),
		strings.Contains(text, "remote state is not encrypted"),
		strings.Contains(text, "encryption is not configured"):
		return TroubleKey, keyText
	case strings.Contains(text, "protocol version (") && strings.Contains(text, "incompatible"):
		return TroubleVersion, versionText
	case strings.Contains(text, "not supported from="), strings.Contains(text, "invalid msgType"),
		strings.Contains(text, "Failed to decode"), strings.Contains(text, "Failed to receive user message"),
		strings.Contains(text, "Failed to decompress"), strings.Contains(text, "missing message type"),
		strings.Contains(text, "truncated"), strings.Contains(text, "exceeds limit"), strings.Contains(text, "larger than limit"):
		return TroubleMalformed, "what it sends can't be understood: " + text
	}
	return "", ""
}

// source is the address in a line's from=…, without the port, which is another each time.
func source(text string) string {
	_, addr, ok := strings.Cut(text, "from=")
	if !ok {
		return "unknown"
	}
	addr, _, _ = strings.Cut(addr, " ")
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// joinTrouble explains why a peer did not take us.
func joinTrouble(err error) (TroubleKind, string) {
	text := err.Error()
	switch {
	case errors.Is(err, errDuplicate):
		return "", "" // noted where it was found
	case strings.Contains(text, "no installed keys could decrypt"), strings.Contains(text, "encryption is not configured"),
		strings.Contains(text, "is not encrypted"), strings.Contains(text, "unsupported encryption version"):
		return TroubleKey, keyText
	case strings.Contains(text, "incompatible"):
		return TroubleVersion, versionText + ": " + text
	case strings.HasSuffix(strings.TrimSpace(text), "EOF"), strings.Contains(text, "reset by peer"), strings.Contains(text, "broken pipe"):
		return TroubleLabel, closedText
	}
	return "", ""
}
