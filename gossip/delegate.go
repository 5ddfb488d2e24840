package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls, from several goroutines and mostly under its lock. So nothing here calls it back,
// waits for anything but a short mutex of ours, or keeps bytes that it was lent.
type delegate struct{ p *Peer }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.MergeDelegate    = delegate{}
	_ memberlist.PingDelegate     = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
)

// NodeMeta is what we say of ourselves.
func (d delegate) NodeMeta(int) []byte {
	d.p.mu.Lock()
	defer d.p.mu.Unlock()
	return d.p.self.encode() // NewPeer saw to it that it fits
}

// LocalState and MergeRemoteState are empty: the replica repairs itself by digests.
func (delegate) LocalState(bool) []byte        { return nil }
func (delegate) MergeRemoteState([]byte, bool) {}

// GetBroadcasts hands out what is to be gossiped.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.p.queue.GetBroadcasts(overhead, limit)
}

// NotifyMsg takes a user message: direct, gossiped or over a stream.
func (d delegate) NotifyMsg(b []byte) {
	p := d.p
	if len(b) > maxMessage {
		p.drop(dropOversize)
		p.troubles.note(TroubleMalformed, "unknown", fmt.Sprintf("it sends messages of more than %d bytes; they are dropped", maxMessage))
		return
	}
	e, err := decodeEnvelope(b)
	if err != nil {
		kind := TroubleMalformed
		if errors.Is(err, errEnvelopeVersion) {
			kind = TroubleVersion
		}
		p.drop(dropMalformed)
		p.troubles.note(kind, "unknown", "a message is dropped: "+err.Error()+p.suspect())
		return
	}
	if e.from == p.cfg.Node { // our own, gossiped back to us or left over from before a restart
		if !p.copies.had(e.from, e.id) {
			p.drop(dropOwn)
		}
		return
	}
	if p.copies.had(e.from, e.id) {
		if !e.relay { // nobody sends that twice
			p.drop(dropReplayed)
		}
		return
	}
	if !p.inbound.allow(e.from, time.Now()) {
		p.drop(dropFlood)
		p.troubles.note(TroubleFlood, e.from, fmt.Sprintf("it, or somebody in its name, sends more than %d messages a second; the rest is dropped until the repair asks for it%s. Look what runs there", messageRate, p.suspect()))
		return
	}
	if e.keys {
		a, err := decodeAgreement(e.payload)
		if err != nil {
			p.drop(dropMalformed)
			p.troubles.note(TroubleMalformed, e.from, "a message is dropped: "+err.Error())
			return
		}
		select {
		case p.heard <- heardKeys{e.from, a}:
		default:
			p.drop(dropInbox) // we are told again
		}
		return
	}
	if !p.inbox.put(e.from, e.payload) {
		p.drop(dropInbox)
		return // and don't pass it on: we are behind
	}
	if e.relay && len(b) <= p.datagram {
		p.gossip(append([]byte(nil), b...))
	}
}

// suspect says where most comes from, for an operator who wants to know who it is: a message names its writer only.
func (p *Peer) suspect() string {
	if t := p.transport.Load(); t != nil {
		if addr, ok := t.sources.loudest(); ok {
			return ". Most datagrams come from " + addr.String()
		}
	}
	return ""
}

// NotifyAlive keeps out whom we don't understand. memberlist itself looks at versions only when states are exchanged; one
// agent of a wrong version that came in by gossip would then keep everybody out. And what an agent calls itself goes
// into the roster and before an operator's eyes.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	p := d.p
	if err := checkName(n.Name); err != nil {
		p.troubles.note(TroubleMalformed, nodeAddr(n).String(), "it is not let in: "+err.Error())
		return err
	}
	if addr := nodeAddr(n); !addr.IsValid() || addr.Addr().IsUnspecified() || addr.Port() == 0 {
		err := fmt.Errorf("%s is no address that it could be reached at", addr)
		p.troubles.note(TroubleMalformed, n.Name, "it is not let in: "+err.Error()+". Set its cluster.advertise")
		return err
	}
	if n.DCur < p.wire.min || n.DCur > p.wire.max || n.DMin > p.wire.now || n.DMax < p.wire.now ||
		n.PMin > memberlist.ProtocolVersion2Compatible || n.PMax < memberlist.ProtocolVersion2Compatible {
		if n.Name == p.cfg.Node {
			return nil
		}
		p.troubles.note(TroubleVersion, n.Name, fmt.Sprintf("%s. It is not let in: it speaks %d and understands %d to %d, we speak %d and understand %d to %d",
			versionText, n.DCur, n.DMin, n.DMax, p.wire.now, p.wire.min, p.wire.max))
		return errVersion
	}
	return nil
}

var errVersion = errors.New("wrong wire version")

// The events. Members of this moment are ours to keep: the ones that memberlist hands out change under our eyes.

// NotifyJoin takes in a member, and puts it on the roster at once: it may be gone in a moment.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	m := d.p.members.put(n)
	d.p.roster.seen([]Member{m}, time.Now())
	if m.Node != d.p.cfg.Node {
		d.p.logLater(slog.LevelInfo, "a host is there", slog.String("host", m.Node), slog.String("address", m.Addr.String()))
	}
}

// NotifyUpdate takes what a member says anew of itself.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.p.members.put(n) }

// NotifyLeave drops a member. Whether it said goodbye memberlist v0.7.0 does not tell.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.p.members.remove(n.Name)
	if n.Name != d.p.cfg.Node {
		d.p.logLater(slog.LevelInfo, "a host is away", slog.String("host", printable(n.Name)), slog.String("address", nodeAddr(n).String()))
	}
}

// logLater logs from where nothing may block; it drops what finds no room.
func (p *Peer) logLater(level slog.Level, text string, attrs ...slog.Attr) {
	if !p.cfg.Log.Enabled(context.Background(), level) {
		return
	}
	r := slog.NewRecord(time.Now(), level, text, 0)
	r.AddAttrs(attrs...)
	select {
	case p.lines <- r:
	default:
	}
}

var errDuplicate = errors.New("another agent in the cluster has our name")

// NotifyMerge sees the states of a cluster before we become a part of it: while we are alone, we don't become a second
// host of our name.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	for _, n := range nodes {
		if n.Name != d.p.cfg.Node || n.State == memberlist.StateDead || n.State == memberlist.StateLeft || d.p.isSelf(nodeAddr(n)) {
			continue
		}
		if d.contest(n) && d.p.members.count() <= 1 {
			return errDuplicate
		}
	}
	return nil
}

// NotifyConflict tells of an agent that has the name of a living one and another address. It may be a duplicate, or a
// host that came back elsewhere before we gave up its old self.
func (d delegate) NotifyConflict(existing, other *memberlist.Node) {
	if other.Name == d.p.cfg.Node {
		d.contest(other)
		return
	}
	d.p.troubles.note(TroubleDuplicate, other.Name, duplicateText(nodeAddr(existing), nodeAddr(other)))
}

func duplicateText(a, b netip.AddrPort) string {
	return fmt.Sprintf("agents at %s and %s both call themselves so. Unless it just moved, give one of them another node.name", a, b)
}

// contest reports whether we are the one to yield; whether the other really lives is then found out (Peer.contested).
func (d delegate) contest(n *memberlist.Node) bool {
	other, err := decodeIdentity(n.Meta)
	d.p.mu.Lock()
	yield := err != nil || other.outranks(d.p.self)
	d.p.mu.Unlock()
	addr := nodeAddr(n)
	d.p.troubles.note(TroubleDuplicate, n.Name, duplicateText(d.p.Addr(), addr))
	if yield {
		select {
		case d.p.contests <- addr:
		default: // one is being looked into
		}
	}
	return yield
}

// AckPayload rides on each answer to a probe: a hash over all members, so that a difference is found without sending
// the states around.
func (d delegate) AckPayload() []byte {
	return binary.BigEndian.AppendUint64(nil, d.p.members.hash())
}

// NotifyPingComplete compares. A difference with two peers in a row is not a change on its way any more.
func (d delegate) NotifyPingComplete(n *memberlist.Node, _ time.Duration, payload []byte) {
	if len(payload) != 8 || binary.BigEndian.Uint64(payload) == d.p.members.hash() {
		d.p.differing.Store(0)
		return
	}
	if d.p.differing.Add(1) < 2 {
		return
	}
	select {
	case d.p.differences <- nodeAddr(n):
	default:
	}
}

func nodeAddr(n *memberlist.Node) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(n.Addr)
	return netip.AddrPortFrom(ip.Unmap(), n.Port)
}

// nodeHash changes with everything that a member says of itself.
func nodeHash(n *memberlist.Node) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s\x00%s\x00%d\x00%d\x00", n.Name, nodeAddr(n), len(n.Meta), n.DCur)
	h.Write(n.Meta)
	return h.Sum64()
}
