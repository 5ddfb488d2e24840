package ledger

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// Source is the source of the events in Orders.Report.
const Source = "cluster"

// Ledger is see the package. Not safe for concurrent use; what it returns is immutable.
//
// The shell's order at a start: Known, File, Host, Inventory and Effects as they come; Take while it waits for its peers;
// Former, which it gives to the engine and to Shared.Adopt; Effects and Pairs of Shared.Kept; Begin.
type Ledger struct{ cfg Config }

// New makes an empty ledger.
func New(cfg Config) *Ledger { return &Ledger{cfg: cfg} }

// Host takes what this host says of itself.
func (l *Ledger) Host(now time.Time, h Host) Orders { return Orders{} }

// Effects takes what the engine decided; of Shared.Kept too, as Save and Publish.
func (l *Ledger) Effects(now time.Time, eff correlate.Effects) Orders { return Orders{} }

// Inventory takes a delta of a source; not kept, not changed.
func (l *Ledger) Inventory(now time.Time, d *correlate.Delta) Orders { return Orders{} }

// Pairs takes what became of pairs of this host's own alarms; they are written within 50 ms, in one go.
func (l *Ledger) Pairs(now time.Time, changed []notify.Pair) Orders { return Orders{} }

// Forgot takes alarms of this host that are cleared and that nobody is owed.
func (l *Ledger) Forgot(now time.Time, ids []string) Orders { return Orders{} }

// File takes all subscriptions of this host's file, whole, with ID and Version as the notifier gives them.
func (l *Ledger) File(now time.Time, subs []notify.Subscription) Orders { return Orders{} }

// Known takes the subscriptions that the notifier has from its disk, whole, once: they are not Put again as they are,
// and those that the cluster does not have are published (of the API) or dropped (of peers' files) after a while.
func (l *Ledger) Known(now time.Time, subs []notify.Subscription) Orders { return Orders{} }

// Publish makes a subscription of the API known to all, or the pause of one of a file. told is its snapshot.
func (l *Ledger) Publish(now time.Time, sub notify.Subscription, told map[string]correlate.Revision) (Orders, error) {
	return Orders{}, nil
}

// Withdraw ends a subscription of the API everywhere.
func (l *Ledger) Withdraw(now time.Time, id string) Orders { return Orders{} }

// Refused takes that a consumer answered this host with 410; with an empty reason, that it was resumed here.
func (l *Ledger) Refused(now time.Time, subscription string, version uint64, reason string) Orders {
	return Orders{}
}

// Acknowledge notes an operator's word about an alarm of another host; correlate.ErrNoAlarm when none such stands.
func (l *Ledger) Acknowledge(now time.Time, alarmID, by, comment string) (Orders, error) {
	return Orders{}, correlate.ErrNoAlarm
}

// Handed takes the answer to a request that this host made for home; when settled, a receipt is written.
func (l *Ledger) Handed(now time.Time, h notify.HandOver, home string, a notify.Answer) Orders {
	return Orders{}
}

// Settled reports whether any host is known to have told a subscription this revision of an alarm, or a newer one.
func (l *Ledger) Settled(subscription, alarmID string, r correlate.Revision) bool { return false }

// Take takes what the replica has learned.
func (l *Ledger) Take(now time.Time, c gossip.Changes) Orders { return Orders{} }

// Tick does what is due.
func (l *Ledger) Tick(now time.Time) Orders { return Orders{} }

// Begin writes all that this host has to say: the term is known now. Before it nothing of the own space is written. It
// may be called again.
func (l *Ledger) Begin(now time.Time) Orders { return Orders{} }

// Former is what a former life of this host left with its peers: its alarms, and what was told of them.
func (l *Ledger) Former() ([]correlate.Change, []notify.Pair) { return nil, nil }

// Home is the host that has a domain; empty when none claims it.
func (l *Ledger) Home(uuid string) string { return "" }

// Standing are the standing alarms of other hosts, by id.
func (l *Ledger) Standing() []*correlate.Alarm { return nil }

// Alarms are the same, as the API shows them; AsOf is left to the shell, which knows the membership (by Key.Home).
func (l *Ledger) Alarms() []AlarmView { return nil }

// Alarm is one of another host, cleared ones included for as long as their home keeps them.
func (l *Ledger) Alarm(id string) (AlarmView, bool) { return AlarmView{}, false }

// Own is the newest revision of an alarm of this host, cleared ones included for a minute at least: what a snapshot
// may have given to a consumer that this host did not know yet.
func (l *Ledger) Own(id string) (correlate.Change, bool) { return correlate.Change{}, false }

// Domains are those whose home is another host, by UUID; AsOf is left to the shell.
func (l *Ledger) Domains() []DomainView { return nil }

// Hosts are the names of all that have said anything, this host included once it has.
func (l *Ledger) Hosts() []string { return nil }

// HostRecord is what is known of a host by its own word: Name, Host, Self, Domains and Alarms of the view.
func (l *Ledger) HostRecord(name string) (HostView, bool) { return HostView{}, false }

// Subscriptions are all that should work here, by id; secrets included.
func (l *Ledger) Subscriptions() []notify.Subscription { return nil }
