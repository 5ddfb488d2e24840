package notify

import (
	"context"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Sealer protects secrets where they rest and travel. Safe for concurrent use.
type Sealer interface {
	// Seal encrypts; context is authenticated with it and must be given to Open.
	Seal(plain, context []byte) []byte
	// Open fails when it was sealed under a key that is not held, or altered. The error never shows what was sealed.
	Open(sealed, context []byte) ([]byte, error)
}

// Peers is what a Notifier asks of the other hosts. Nothing but those with a context may block; no method may call the
// Notifier back on the same goroutine.
type Peers interface {
	// Standing are the standing alarms of the other hosts, newest revisions: for the snapshot of a new subscription.
	Standing() []*correlate.Alarm
	// Publish makes a subscription of the API (new, or with new contents) known to every host, and durable here. told
	// is the snapshot: alarm id → the revision that the consumer was given, of all hosts' alarms; nil when it is no new
	// one. Of a file's subscription (OriginFile, OriginPeer) only Paused is news. It is called before a change counts here;
	// of a new subscription after, and an error undoes it.
	Publish(ctx context.Context, sub Subscription, told map[string]correlate.Revision) error
	// Withdraw ends a subscription of the API everywhere.
	Withdraw(ctx context.Context, id string) error
	// Pairs takes what became of pairs of this host's own alarms, in the order of each pair's changes.
	Pairs(changed []Pair)
	// Forgot takes alarms that are cleared and that nobody is owed any more.
	Forgot(alarmIDs []string)
	// Refused says that a consumer answered this host with 410; with an empty reason, that an operator resumed it here. A
	// refusal that stands is said again after a restart.
	Refused(subscription string, version uint64, reason string)
	// Owing is how many other hosts owe a subscription something that is not parked. It does not wait for them.
	Owing(subscription string) int
	// PublishMute makes a mute, or another form of it, known to all hosts and durable here; WithdrawMute ends it everywhere.
	PublishMute(ctx context.Context, m Mute) error
	WithdrawMute(ctx context.Context, id string) error
	// Pulse is what is known for a heartbeat of a subscription: one host of those that live is to send it. It does not wait for them.
	Pulse(subscription string) Pulse
	// HandOver has a peer make one request in our place, because no endpoint can be reached from here. It ends when a
	// peer has got an answer from the consumer, when no peer could, or with ctx. The error is ErrSilent when one may have asked.
	HandOver(ctx context.Context, h HandOver) (Answer, error)
}

// Pair is what one subscription is owed and was told of one alarm of this host: what a peer must know to go on.
type Pair struct {
	Subscription, AlarmID string
	Told, Owed            correlate.Revision // zero: nothing
	Left                  []delivery.Part    // told, or may have been, and the owed revision does not speak of them: the consumer is yet to hear that
	Parked                bool
	Again                 bool // parked, and tried again when the consumer takes something
	Attempts              int
	LastError             string
	Removed               bool // its clear is told, or the subscription ended
}

// HandOver is one request that a peer makes for the home of an alarm. The peer has the subscription, with its secret,
// and makes the body; the id is the home's.
type HandOver struct {
	NotificationID string
	Subscription   string
	Version        uint64 // of the subscription; a peer that knows another one refuses
	Change         correlate.Change
	Outbox         time.Time
	Attempt        int
	Superseded     int
	// Asks are what the request is about, of a form that is split; else nil. It may be one of several of a revision, which is told
	// only with all of them.
	Asks []delivery.Ask `json:",omitempty"`
	// Beat is the slot of a heartbeat, which is about no alarm: Change is empty then. Zero: it is about one.
	Beat time.Time `json:",omitzero"`
}

// beats says that it is a heartbeat.
func (h HandOver) beats() bool { return !h.Beat.IsZero() }

// Answer is what came of it.
type Answer struct {
	By             string // the host that asked the consumer
	Outcome        delivery.Outcome
	Sent, Answered time.Time // by its clock
}

// Shared is the other side of Peers: what the other hosts' word does here. Safe for concurrent use after New.
type Shared interface {
	// SetTerm makes a higher term durable, for a host that its peers know under a higher one than it knew itself.
	SetTerm(term uint64) error
	// Adopt takes back what a former life of this host left with its peers: its alarms, and what was told of them. Alarms
	// that are known here keep what is newer. Pairs of subscriptions that are not known yet wait for their Put. One that stands
	// and of which no pair is known may have been told before the peers heard of it: whoever wants it is owed its clear, also
	// whoever is Put within five minutes.
	Adopt(alarms []correlate.Change, pairs []Pair)
	// Kept is all that the outbox holds of this host's own alarms: what the peers are told first.
	Kept() (alarms []correlate.Change, pairs []Pair)
	// Held are all subscriptions, whole: with their secrets, and of whatever origin; by id.
	Held() []Subscription
	// Put takes a subscription that was made or changed elsewhere (OriginAPI), or that the file of another host names
	// (OriginPeer); whole, with its version, and paused or not. Of one that this host's own file names (OriginFile) only
	// Paused counts, and only when it is the same version. What a subscription of the own file was told and owes is kept
	// for five minutes after the file names it no more, for a Put to take up.
	//
	// told: what the consumer was given when it subscribed (Peers.Publish); it counts once for a subscription in a run.
	// The alarms in it that are not known here are returned; when the clear of one of them is Published, it is delivered.
	Put(sub Subscription, told map[string]correlate.Revision) (unknown []string, err error)
	// Drop ends one that ended elsewhere, or that no other host's file names any more. Those of the own file go on.
	Drop(id string)
	// SetPlace says where a host stands: this one after a reload, or another. What a filter passes by that and did not before is
	// owed; who was told of what it passes no more is kept up to date.
	SetPlace(host string, p Place)
	// Mute takes a mute that was made or changed elsewhere; Unmute one that has ended.
	Mute(m Mute)
	Unmute(id string)
	// Mutes lists those that hold, by id.
	Mutes() []Mute
	// Told says that another host has told a subscription a revision of one of our alarms. What is owed up to it is
	// settled, in flight or not.
	Told(subscription, alarmID string, r correlate.Revision)
	// Speak has this host deliver the alarms of another one that can't, with what is known to be told and owed of them; whoever
	// else wants one is owed it. Said again it adds what is newer. What becomes of them is told to Peers.Pairs as ever; they are not kept over
	// a restart. owed is how many deliveries of them wait.
	Speak(alarms []correlate.Change, pairs []Pair) (owed int)
	// Hush ends that for all alarms of a home: it speaks for itself again, or somebody else does.
	Hush(home string)
	// Deliver makes one request for the home of an alarm: the other side of Peers.HandOver. The error says that it was
	// not made: the subscription is not known here under this version, or no endpoint can be reached from here either.
	Deliver(ctx context.Context, h HandOver) (Answer, error)
}
