package ledger

import (
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/takeover"
	"github.com/paramedic-ha/paramedic/notify"
)

// Write is one record that this host writes.
type Write struct {
	Kind    gossip.Kind
	ID      string
	Payload []byte
	Delete  bool
}

// Orders are what the shell carries out: what is dropped before what is put, what is hushed before what is spoken, else in any
// order, but those of one list in its own. Wake is the earliest of what waits at the end of the call: it replaces that of earlier orders.
type Orders struct {
	Write []Write // to the replica: own kinds with Set and Delete, shared ones with SetShared and DeleteShared

	Put    []Put             // Shared.Put
	Drop   []string          // Shared.Drop
	Told   []Told            // Shared.Told
	Former []FormerAlarm     // Shared.Adopt, and those that stand engine.Close, after Put
	Places []PlaceOrder      // Shared.SetPlace, before what is spoken
	Said   []Saying          // engine: words about our own alarms
	Unmute []string          // Shared.Unmute, and
	Mute   []notify.Mute     // Shared.Mute, both before what is spoken or put
	Report []correlate.Event // about ourselves (Source is Source): conflicts of subscriptions, secrets that can't be opened

	Spoken   []Spoken // to the replica: records in the spaces of others
	Guests   []Guests // notifier: Speak
	Hush     []string // notifier: Hush
	Finished []string // hosts, and spaces of zones, of which all that this host had to tell at once is told
	Recorded []takeover.Record
	Back     []Back

	Seen     []correlate.Change // new revisions of other hosts' alarms, and what was said of them: for the stream and the history, after Vanished
	Vanished []string           // their alarms that stood and are nobody's word any more, though nobody has said that they ended
	Claim    uint64             // not zero: our term is too low, take the next even one above this
	Wake     time.Time          // call Tick then; zero: never
}

// Put is a subscription made elsewhere (OriginAPI, OriginPeer), or the word of others about the pause of one that this host's
// file names (OriginFile). Told is what its consumer was given of this host's alarms, if it is not known to have
// been told already, and Given the same for making their clear.
type Put struct {
	Subscription notify.Subscription
	Told         map[string]correlate.Revision
	Given        map[string]Given
}

// FormerAlarm is an alarm of this host that a former life has left with peers who could only be heard after Begin, with
// what was told of it; of one that is known here too, the newer form.
type FormerAlarm struct {
	Change correlate.Change
	Pairs  []notify.Pair
}

// Told is another host's receipt.
type Told struct {
	Subscription, AlarmID string
	Revision              correlate.Revision
}

// PlaceOrder says where another host stands by its own word; the zero Place when there is none any more.
type PlaceOrder struct {
	Host  string
	Place notify.Place
}

// Join adds later orders to those that were not carried out yet. A subscription that is dropped is not to be Put before.
func (o *Orders) Join(later Orders) {
	for _, id := range later.Drop {
		o.Put = slices.DeleteFunc(o.Put, func(p Put) bool { return p.Subscription.ID == id })
	}
	o.Write = append(o.Write, later.Write...)
	o.Put, o.Drop = append(o.Put, later.Put...), append(o.Drop, later.Drop...)
	o.Told, o.Said, o.Report = append(o.Told, later.Told...), append(o.Said, later.Said...), append(o.Report, later.Report...)
	for _, id := range later.Unmute {
		o.Mute = slices.DeleteFunc(o.Mute, func(m notify.Mute) bool { return m.ID == id })
	}
	o.Unmute, o.Mute = append(o.Unmute, later.Unmute...), append(o.Mute, later.Mute...)
	o.Former, o.Places = append(o.Former, later.Former...), append(o.Places, later.Places...)
	o.Spoken, o.Guests = append(o.Spoken, later.Spoken...), append(o.Guests, later.Guests...)
	for _, home := range later.Hush { // it undoes what was ordered before
		o.Guests = slices.DeleteFunc(o.Guests, func(g Guests) bool { return g.Home == home })
	}
	o.Hush, o.Finished = append(o.Hush, later.Hush...), append(o.Finished, later.Finished...)
	o.Recorded, o.Back = append(o.Recorded, later.Recorded...), append(o.Back, later.Back...)
	for _, id := range later.Vanished {
		o.Seen = slices.DeleteFunc(o.Seen, func(c correlate.Change) bool { return c.Alarm.ID == id })
	}
	o.Vanished = append(o.Vanished, later.Vanished...)
	o.Seen, o.Claim = append(o.Seen, later.Seen...), max(o.Claim, later.Claim)
	if o.Wake.IsZero() || !later.Wake.IsZero() && later.Wake.Before(o.Wake) {
		o.Wake = later.Wake
	}
}
