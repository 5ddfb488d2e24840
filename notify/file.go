package notify

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/paramedic-ha/paramedic/correlate"
)

// digest tells a file's contents apart without keeping them.
func digest(s Subscription) string {
	sum := contentsSum(s)
	return hex.EncodeToString(sum[:])
}

func contentsSum(s Subscription) (sum [sha256.Size]byte) {
	h := sha256.New()
	contents := []any{s.Name, s.Endpoints, s.Format, s.Role, s.Filter, s.Secret.keys}
	later := map[string]any{} // what came later does not change the digest of what does not say it
	if s.MaxRate != 0 {
		later["rate"] = s.MaxRate
	}
	if s.toAll() {
		later["deliver_to"] = s.DeliverTo
	}
	if s.Heartbeat != 0 {
		later["heartbeat"] = s.Heartbeat
	}
	if len(later) > 0 {
		contents = append(contents, later)
	}
	if s.Link != (Link{}) {
		contents = append(contents, map[string]any{"link": s.Link})
	}
	_ = json.NewEncoder(h).Encode(contents)
	h.Sum(sum[:0])
	return sum
}

// FileVersion is the version of a file's subscription: 53 bits (what every JSON reader takes for an integer) of the digest
// of its contents, so that equal files on many hosts are one version of one subscription.
func FileVersion(s Subscription) uint64 {
	sum := contentsSum(s.normal())
	return max(1, binary.BigEndian.Uint64(sum[:])>>11)
}

// SetFile replaces the file's subscriptions; see Service. Each is validated; any problem leaves everything as it was.
func (n *Notifier) SetFile(subs []Subscription) error {
	var problems []error
	seen := map[string]bool{}
	for i, s := range subs {
		if err := s.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("subscription %d (%q): %w", i, s.Name, err))
		}
		if seen[s.Name] {
			problems = append(problems, fmt.Errorf("subscription %d: name: %q is taken by another: names are unique", i, s.Name))
		}
		seen[s.Name] = true
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}

	n.mu.Lock()
	defer n.mu.Unlock()
	n.filed = true
	now := n.cfg.Now()
	named := map[string]bool{}
	for _, s := range subs {
		s = s.normal()
		s.ID, s.Origin, s.Version = FileID(n.cfg.Label, s.Name), OriginFile, FileVersion(s)
		named[s.ID] = true
		if legs := n.legsOf(s.ID); len(legs) > 0 {
			old := legs[0].subscription()
			if s.Created = old.Created; sameContents(old, s) {
				s.Paused = old.Paused // a reload alone resumes nothing; a change does
			}
			n.change(legs, s, now)
			continue
		}
		s.Created = now
		past, ok := n.past[s.ID]
		if ok {
			if s.Created = past.Created; past.Digest == digest(s) { // whoever changed it wants it tried again
				s.Paused = past.Paused
			}
			delete(n.past, s.ID)
		}
		w := n.adopt(s, past)[0]
		w.mu.Lock() // it may be answered already
		n.box.put(w.record())
		w.mu.Unlock()
	}
	for _, w := range n.list() {
		switch origin := w.sub.Origin; {
		case origin == OriginAPI || named[w.owner]:
		case n.cfg.Peers == nil: // nor is there a peer any more whose file could name it
			n.drop([]*worker{w})
		case origin == OriginFile: // a peer's may
			n.orphan(w)
		}
	}
	if n.orphaned = now; n.cfg.Peers == nil {
		n.purge()
	}
	return nil
}

// purge ends what is left for subscriptions that nobody has named. Under mu.
func (n *Notifier) purge() {
	for id := range n.left {
		n.disown(id)
	}
	for id := range n.past {
		n.box.put(write{place{shelfSubscriptions, id}, nil})
	}
	clear(n.past)
	for _, a := range n.restored.Alarms { // of the last run, about subscriptions that are no more
		if a.Key.Condition == correlate.CondSubscription && a.Source == source && !slices.ContainsFunc(n.list(), func(w *worker) bool {
			return a.Key.Resource == w.leg.resource(w.subscription())
		}) {
			n.report(a.Key.Resource, a.Key.Condition, "")
		}
	}
	for id := range n.alarms {
		n.forgetSettled(id)
	}
}

// disown removes the pairs that an earlier run left for a leg. Under mu.
func (n *Notifier) disown(id string) {
	pairs := n.left[id]
	delete(n.left, id)
	for _, p := range pairs {
		n.box.put(write{pairPlace(id, p.AlarmID), nil})
		n.tellRemoved(id, p.AlarmID)
		n.release([]string{p.AlarmID})
	}
}
