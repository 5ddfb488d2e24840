package ledger

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// wish is a subscription that a record names, as far as it can be used here.
type wish struct {
	payload Subscription
	sub     notify.Subscription // with its secret; Paused is left to target
	refused error               // why it can't be used here at all
	writer  string              // of a shared one
	locked  error               // why its secrets can't be opened: others must deliver
	stale   bool                // they are not sealed under the key that we seal with
}

// pauseOnly says that a shared record is not a subscription but the pause of one that files name.
func (w *wish) pauseOnly() bool { return len(w.payload.Endpoints) == 0 }

// use is how much of it can be used here.
func (w *wish) use() int {
	switch {
	case w.refused != nil:
		return 0
	case w.locked != nil:
		return 1
	}
	return 2
}

// seal writes a subscription for a record; Snapshot and Resumed are left to the caller.
func (l *Ledger) seal(s notify.Subscription) Subscription {
	p := words(s)
	if !s.Secret.IsZero() {
		p.Secret, p.Unsealed = s.Secret.Seal(l.cfg.Sealer, []byte(s.ID)), l.cfg.Sealer == nil && !s.Secret.Locked()
	}
	if c := s.Credentials; !c.IsZero() {
		p.Credentials, p.BareCredentials = c.Seal(l.cfg.Sealer, s.ID), l.cfg.Sealer == nil && !c.Locked()
	}
	return p
}

// rewritten is the payload of a shared record once more, its secret sealed anew.
func (l *Ledger) rewritten(w *wish) Subscription {
	if w.pauseOnly() {
		return w.payload
	}
	p := l.seal(w.sub)
	p.Paused, p.Resumed, p.Refused, p.Snapshot, p.SnapshotOf = w.payload.Paused, w.payload.Resumed, w.payload.Refused, w.payload.Snapshot, w.payload.SnapshotOf
	return p
}

// words writes all of a subscription but its secrets.
func words(s notify.Subscription) Subscription {
	p := Subscription{
		Version: s.Version, Name: s.Name, Endpoints: s.Endpoints, Format: s.Format, Role: string(s.Role), Owner: s.Owner, Paused: s.Paused,
		Verified: s.Verified, Rate: s.Rate, MaxRate: s.MaxRate, Heartbeat: s.Heartbeat, Created: s.Created, Expires: s.Expires, Link: Link(s.Link),
		Filter: filterWords(s.Filter),
	}
	if s.DeliverTo == notify.DeliverAll {
		p.DeliverTo = s.DeliverTo
	}
	if p.Format == "" {
		p.Format = notify.FormatNative
	}
	if p.Role == "" {
		p.Role = string(notify.RoleAdmin)
	}
	return p
}

// filterWords writes a filter.
func filterWords(f notify.Filter) Filter {
	p := Filter{
		Projects: f.Projects, Domains: f.Domains, ResourceTypes: recast[string](f.ResourceTypes),
		Conditions: recast[string](f.Conditions), MinSeverity: f.MinSeverity.String(), Kinds: f.Kinds,
		MinConfidence: string(f.MinConfidence),
		Hosts:         f.Hosts, Zones: f.Zones, Labels: f.Labels, Resources: f.Resources,
		VNFs: f.VNFs, SOL: f.SOL,
	}
	for _, st := range f.States {
		p.States = append(p.States, st.String())
	}
	return p
}

// read is the inverse of filterWords. What it can't read it leaves out, and says so.
func (p Filter) read() (notify.Filter, error) {
	f := notify.Filter{
		Projects: p.Projects, Domains: p.Domains, ResourceTypes: recast[correlate.Kind](p.ResourceTypes),
		Conditions: recast[correlate.Condition](p.Conditions), Kinds: p.Kinds,
		MinConfidence: correlate.Confidence(p.MinConfidence),
		Hosts:         p.Hosts, Zones: p.Zones, Labels: p.Labels, Resources: p.Resources,
		VNFs: p.VNFs, SOL: p.SOL,
	}
	var problem error
	if s := p.MinSeverity; s != "" {
		f.MinSeverity, problem = correlate.ParseSeverity(s)
	}
	for _, name := range p.States {
		st, ok := stateOf(name)
		if !ok {
			problem = fmt.Errorf("filter.states: %q is not known", name)
		}
		f.States = append(f.States, st)
	}
	return f, problem
}

func recast[T, F ~string](list []F) []T {
	if len(list) == 0 {
		return nil
	}
	out := make([]T, len(list))
	for i, s := range list {
		out[i] = T(s)
	}
	return out
}

var errUnusable = errors.New("it can't be used by this version of paramedic")

// open reads a subscription from a payload, as strictly as the API: what comes from elsewhere may be newer than we are.
func (l *Ledger) open(id string, p Subscription, origin notify.Origin) *wish {
	w := &wish{payload: p}
	if w.pauseOnly() && origin == notify.OriginAPI {
		return w
	}
	w.payload.Secret, w.payload.Credentials, w.payload.Link, w.payload.Filter = nil, nil, Link{}, Filter{} // once is enough
	w.sub = notify.Subscription{
		ID: id, Version: p.Version, Name: p.Name, Endpoints: p.Endpoints, DeliverTo: p.DeliverTo, Format: p.Format, Role: notify.Role(p.Role), Owner: p.Owner, Origin: origin,
		Verified: p.Verified, Rate: p.Rate, MaxRate: p.MaxRate, Heartbeat: p.Heartbeat, Created: p.Created, Expires: p.Expires, Link: notify.Link(p.Link),
	}
	refuse := func(err error) {
		w.refused = fmt.Errorf("%w: %w", errUnusable, err)
	}
	var err error
	if w.sub.Filter, err = p.Filter.read(); err != nil {
		refuse(err)
	}
	if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(r rune) bool { return r == '/' || r == '#' || !strconv.IsPrint(r) }) {
		refuse(errors.New("its id is no UUID"))
	}
	if p.Role == "" || p.Format == "" {
		refuse(errors.New("role or format is missing")) // the defaults are the writer's to fill in
	}
	if p.Rate < 0 {
		refuse(fmt.Errorf("rate %d: want zero or more", p.Rate))
	}
	if err := w.sub.Validate(); err != nil {
		refuse(errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")))
	}
	var lockedSecret, lockedCredentials error
	w.sub.Secret, lockedSecret = notify.OpenSecret(p.Secret, l.opener(p.Unsealed), []byte(id))
	w.sub.Credentials, lockedCredentials = notify.OpenCredentials(p.Credentials, l.opener(p.BareCredentials), id)
	w.locked = cmp.Or(lockedSecret, lockedCredentials)
	w.stale = w.locked == nil && (!l.sealedNow(p.Secret, p.Unsealed) || !l.sealedNow(p.Credentials, p.BareCredentials))
	return w
}

// opener opens what a record holds sealed, or bare.
func (l *Ledger) opener(bare bool) notify.Sealer {
	switch {
	case bare:
		return nil
	case l.cfg.Sealer == nil:
		return noKey{}
	}
	return l.cfg.Sealer
}

// sealedNow says that what can be opened here is sealed as we would seal it.
func (l *Ledger) sealedNow(sealed []byte, bare bool) bool {
	ring, ok := l.cfg.Sealer.(interface{ Current(sealed []byte) bool })
	return !ok || len(sealed) == 0 || !bare && ring.Current(sealed)
}

// reseal writes the shared subscriptions anew whose secrets lie bare, or under a key that is on its way out. Nothing else of
// them changes, so nobody notices; several hosts may do it.
func (l *Ledger) reseal() {
	for _, id := range slices.Sorted(maps.Keys(l.shared)) {
		w := l.shared[id]
		if !w.stale || w.refused != nil {
			continue
		}
		if b, err := l.codec.encode(l.rewritten(w)); err == nil { // it fitted before
			l.share(gossip.KindSubscription, id, b)
		}
	}
}

func stateOf(name string) (correlate.State, bool) {
	for st := correlate.StateOK; st <= correlate.StateFailed; st++ {
		if st.String() == name {
			return st, true
		}
	}
	return 0, false
}

// noKey opens nothing: a sealed secret came to a host that has no key.
type noKey struct{}

func (noKey) Seal(plain, _ []byte) []byte { return plain }

func (noKey) Open(_, _ []byte) ([]byte, error) {
	return nil, errors.New("it is sealed, and this host has no cluster.secrets_key_file")
}

// digest tells apart what a notifier would do differently: the reason of a pause and the time of making don't count.
func digest(s notify.Subscription) [sha256.Size]byte {
	p := words(s)
	p.Created, p.Paused = time.Time{}, ""
	h := sha256.New()
	_ = json.NewEncoder(h).Encode([]any{p, s.Origin, s.Paused != "", s.Secret.Locked(), s.Secret.Seal(nil, nil), s.Credentials.Locked(), s.Credentials.Seal(nil, "")}) // can't fail
	return [sha256.Size]byte(h.Sum(nil))
}
