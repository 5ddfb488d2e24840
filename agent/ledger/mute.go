package ledger

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// A mute ends by itself, on each host by its own clock. Its record is deleted later: by the host that wrote it, or, when that has been
// away for long, by any.
const (
	muteKept     = time.Hour
	muteOrphaned = 24 * time.Hour
)

// muted is a mute that a record names.
type muted struct {
	mute   notify.Mute
	writer string
}

// KnownMutes takes the mutes that the notifier has from its disk, once. Those that no record names when all have had the time to
// speak were made while this host was alone: they are published.
func (l *Ledger) KnownMutes(now time.Time, all []notify.Mute) Orders {
	l.begin(now)
	for _, m := range all {
		l.unnamed[m.ID] = m
	}
	return l.finish()
}

// PublishMute makes a mute, or another form of it, known to all.
func (l *Ledger) PublishMute(now time.Time, m notify.Mute) (Orders, error) {
	l.begin(now)
	b, err := l.muteWords(m)
	if err != nil {
		return l.finish(), fmt.Errorf("mute %q: %w", m.ID, err)
	}
	delete(l.unnamed, m.ID)
	l.share(gossip.KindMute, m.ID, b)
	return l.finish(), nil
}

// WithdrawMute ends one.
func (l *Ledger) WithdrawMute(now time.Time, id string) Orders {
	l.begin(now)
	delete(l.unnamed, id)
	l.unshare(gossip.KindMute, id)
	return l.finish()
}

func (l *Ledger) muteWords(m notify.Mute) ([]byte, error) {
	return l.codec.encode(Mute{
		Filter: filterWords(m.Filter), MaxSeverity: m.MaxSeverity.String(), Until: m.Until, Reason: m.Reason, By: m.By, Made: m.Made,
	})
}

// openMute reads one as strictly as the API; only its end may be over.
func openMute(id string, p Mute) (notify.Mute, error) {
	m := notify.Mute{ID: id, Until: p.Until, Reason: p.Reason, By: cut(p.By, maxError), Made: p.Made}
	var err error
	if m.Filter, err = p.Filter.read(); err != nil {
		return m, fmt.Errorf("%w: mute %q: %w", errPayload, id, err)
	}
	if p.MaxSeverity != "" {
		if m.MaxSeverity, err = correlate.ParseSeverity(p.MaxSeverity); err != nil {
			return m, fmt.Errorf("%w: mute %q: %w", errPayload, id, err)
		}
	}
	if m.Until.Sub(m.Made) > notify.MaxMuted+time.Minute { // it was made and checked by one clock, a moment apart
		return m, fmt.Errorf("%w: mute %q lasts for more than %v", errPayload, id, notify.MaxMuted)
	}
	if err := m.Validate(m.Until.Add(-time.Second)); err != nil {
		return m, fmt.Errorf("%w: mute %q: %w", errPayload, id, err)
	}
	return m, nil
}

// readMute takes up a mute, or its end.
func (l *Ledger) readMute(rec gossip.Record, live bool) error {
	delete(l.unnamed, rec.ID)
	delete(l.mutes, rec.ID)
	if !live {
		l.out.Unmute = append(l.out.Unmute, rec.ID)
		return nil
	}
	var p Mute
	var m notify.Mute
	err := l.codec.decode(rec.Payload, &p)
	if err == nil {
		m, err = openMute(rec.ID, p)
	}
	if err != nil { // who can't tell what to keep quiet about tells everything
		l.out.Unmute = append(l.out.Unmute, rec.ID)
		return err
	}
	l.mutes[rec.ID] = muted{m, rec.Version.Node}
	l.muteEnds(rec.ID)
	if m.Active(l.now) {
		l.out.Mute = append(l.out.Mute, m)
	} else {
		l.out.Unmute = append(l.out.Unmute, rec.ID)
	}
	return nil
}

// muteEnds notes when the record of a mute has to be looked at.
func (l *Ledger) muteEnds(id string) {
	m := l.mutes[id]
	at := m.mute.Until.Add(muteOrphaned)
	if m.writer == l.cfg.Node {
		at = m.mute.Until.Add(muteKept)
	}
	if !at.After(l.now) { // it was refused, or not all have spoken: it is looked at again
		at = l.now.Add(muteKept)
	}
	if l.muteOver.IsZero() || at.Before(l.muteOver) {
		l.muteOver = at
	}
}

// forgetMutes deletes the records of those that have been over for long.
func (l *Ledger) forgetMutes() {
	l.muteOver = time.Time{}
	for _, id := range slices.Sorted(maps.Keys(l.mutes)) {
		m := l.mutes[id]
		kept := muteOrphaned
		if m.writer == l.cfg.Node {
			kept = muteKept
		}
		if l.settled && !l.now.Before(m.mute.Until.Add(kept)) && !has(l.insisted, gossip.Key{Kind: gossip.KindMute, ID: id}) {
			l.insist(Write{Kind: gossip.KindMute, ID: id, Delete: true})
		}
		l.muteEnds(id)
	}
}

// nameMutes publishes those that were made while this host was alone.
func (l *Ledger) nameMutes() {
	for _, id := range slices.Sorted(maps.Keys(l.unnamed)) {
		m := l.unnamed[id]
		if b, err := l.muteWords(m); err == nil && m.Active(l.now) {
			l.insist(Write{Kind: gossip.KindMute, ID: id, Payload: b})
		}
	}
	clear(l.unnamed)
}
