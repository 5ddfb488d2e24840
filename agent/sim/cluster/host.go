package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/simnet"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

const label = "sim"

// host is a machine with all that outlives its agent.
type host struct {
	s      *simulation
	name   string
	node   *simnet.Node
	skew   time.Duration // of its clock
	sealer notify.Sealer
	file   []notify.Subscription // what its configuration names
	disk   disk
	agent  *agent // nil while it is down
	gone   bool   // for good
	odd    bool   // its key for secrets is not that of the others
	late   bool   // its sources take long after the next start

	failed   map[correlate.ID]bool // its links and domains that are not well
	departed map[correlate.ID]correlate.GoneReason
}

// disk is what survives the agent; a reimaged host has an empty one.
type disk struct {
	term   uint64
	alarms map[string]correlate.Change
	pairs  map[pair]delivery.Record
	subs   map[string]kept
	shared []gossip.Record
	saved  time.Time
	slow   bool
}

type pair struct{ subscription, alarm string }

// kept is a subscription as the outbox has it.
type kept struct {
	sub     notify.Subscription
	digest  string // of a file's contents
	refused uint64
}

func emptyDisk() disk {
	return disk{alarms: map[string]correlate.Change{}, pairs: map[pair]delivery.Record{}, subs: map[string]kept{}}
}

// domain is a virtual machine; it runs at one host.
type domain struct {
	uuid, name, project string
	at                  *host
	to                  *host // it is being moved there
	nic                 correlate.ID
}

func (d *domain) id() correlate.ID { return correlate.NewID(correlate.KindDomain, d.uuid) }
func (d *domain) vnic() correlate.ID {
	return correlate.NewID(correlate.KindVNIC, d.uuid+"/52:54:00:00:00:01")
}

var nics = []correlate.ID{"nic/eth0", "nic/eth1"}

// build makes the cluster and starts it.
func (s *simulation) build() {
	odd := -1
	if s.chance(0.2) {
		odd = 1 + s.rng.IntN(s.cfg.Hosts-1)
	}
	for i := range s.cfg.Hosts {
		h := &host{s: s, name: fmt.Sprintf("cmp-%02d", i), disk: emptyDisk(), failed: map[correlate.ID]bool{}, departed: map[correlate.ID]correlate.GoneReason{}}
		h.node = s.net.Attach(h.name)
		h.skew = s.between(-2*time.Second, 2*time.Second)
		h.sealer = sealer{"shared", &s.sealed}
		if i == odd {
			h.sealer, h.odd = sealer{"another", &s.sealed}, true
		}
		s.hosts = append(s.hosts, h)
	}
	for i := range 2 * len(s.hosts) {
		s.domains = append(s.domains, &domain{
			uuid: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), name: fmt.Sprintf("vm-%d", i), project: fmt.Sprintf("p%d", i%3),
			at: s.hosts[i%len(s.hosts)], nic: nics[s.rng.IntN(2)],
		})
	}
	s.nameInFiles()
	for _, h := range s.hosts {
		s.after(s.between(0, 2*time.Second), h.start)
	}
}

// clock is what the host's clock says.
func (h *host) clock() time.Time { return h.s.net.Now().Add(h.skew) }

// wrong says that the clock is so wrong that others refuse what is written by it; two such clocks can lose a word.
func (h *host) wrong() bool { return h.skew.Abs() > gossip.MaxAhead }

func (h *host) start() {
	if h.agent != nil || h.gone {
		return
	}
	h.s.report.Starts++
	h.agent = newAgent(h)
}

// crash is kill -9 of the agent, or the power of the host.
func (h *host) crash() {
	a := h.agent
	if a == nil {
		return
	}
	h.s.trace("%s is killed", h.name)
	a.notifier.box.crash()
	a.dead = true
	h.agent = nil
	h.node.Crash()
	h.s.check.lost(h)
}

// reimage leaves nothing of the host's disk but its configuration.
func (h *host) reimage() {
	h.crash()
	h.s.trace("%s is imaged anew", h.name)
	h.disk = emptyDisk()
	h.s.check.reimaged(h)
	h.s.check.lost(h)
}

// hosts of domains: what is true here for the sources to see.

func (h *host) links() ([]correlate.Resource, []correlate.Event) {
	var set []correlate.Resource
	var events []correlate.Event
	for _, id := range nics {
		set = append(set, correlate.Resource{ID: id, Name: id.Name()})
		events = append(events, h.event("nic", id, correlate.CondCarrier))
	}
	return set, events
}

func (h *host) machines() (set []correlate.Resource, gone []correlate.Gone, events []correlate.Event) {
	for _, d := range h.s.domains {
		if d.at != h && d.to != h {
			continue
		}
		set = append(set, correlate.Resource{
			ID: d.id(), Name: d.name, Project: d.project, Inactive: d.at != h, Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{d.vnic()}}},
		}, correlate.Resource{
			ID: d.vnic(), Domain: d.id(), Port: &correlate.Port{MAC: "52:54:00:00:00:01"}, Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{d.nic}}},
		})
		events = append(events, h.event("virt", d.id(), correlate.CondCrash))
	}
	for _, d := range h.s.domains {
		if why, ok := h.departed[d.id()]; ok && d.at != h && d.to != h {
			gone = append(gone, correlate.Gone{ID: d.id(), Reason: why}, correlate.Gone{ID: d.vnic(), Reason: why})
		}
	}
	return set, gone, events
}

func (h *host) event(source string, id correlate.ID, c correlate.Condition) correlate.Event {
	e := correlate.Event{Source: source, Resource: id, Condition: c, Status: correlate.StatusOK}
	if h.failed[id] {
		e.Status = correlate.StatusFailed
	}
	return e
}

// changed tells the sources that the world is another.
func (h *host) changed() {
	if h.agent != nil {
		h.agent.look()
	}
}

// sealer binds what it seals to a key and a context, and never seals twice alike, as a real one.
type sealer struct {
	key string
	n   *uint64
}

func (s sealer) Seal(plain, context []byte) []byte {
	*s.n++
	return slices.Concat(binary.BigEndian.AppendUint64(nil, *s.n), []byte(s.key+"\x00"+string(context)+"\x00"), plain)
}

func (s sealer) Open(sealed, context []byte) ([]byte, error) {
	head := s.key + "\x00" + string(context) + "\x00"
	if len(sealed) < 8+len(head) || string(sealed[8:8+len(head)]) != head {
		return nil, errors.New("sealed under another key")
	}
	return slices.Clone(sealed[8+len(head):]), nil
}
