package cluster

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// mood is how a consumer behaves at present.
type mood string

const (
	well       mood = "well"
	slow       mood = "slow"       // answers in time for its home, often too late for a peer
	hung       mood = "hung"       // takes connections and never answers
	down       mood = "down"       // refuses connections
	failing    mood = "failing"    // 500
	throttling mood = "throttling" // 429, with Retry-After
	refusing   mood = "refusing"   // 400, which parks
	leaving    mood = "leaving"    // 410, which pauses, and ends what two hosts have heard
	mute       mood = "mute"       // takes the notification in, and the answer is lost
)

var moods = []mood{well, well, well, well, slow, hung, down, failing, throttling, refusing, leaving, mute}

// cut is how a host reaches a consumer.
type cut int

const (
	reachable cut = iota
	refused       // at once
	silent        // after a while
)

// consumer is one who is told: it keeps what it has taken in, and drops a revision that is not newer (the contract).
type consumer struct {
	s        *simulation
	name     string
	endpoint string
	mood     mood
	left     bool // it has answered 410 once
	cut      map[*host]cut
	holds    map[string]held // by alarm
}

// held is what a consumer believes of an alarm.
type held struct {
	home     string
	revision correlate.Revision
	standing bool
}

// notification is what arrives.
type notification struct {
	id       string
	sub      string
	version  uint64
	alarm    string
	home     string
	from     string
	revision correlate.Revision
	standing bool
	digest   [sha256.Size]byte // of what must be the same whoever sends it, and whenever
}

func (s *simulation) newConsumer(name string) *consumer {
	c := &consumer{s: s, name: name, endpoint: "http://" + name + ".example/", mood: well, cut: map[*host]cut{}, holds: map[string]held{}}
	s.consumers = append(s.consumers, c)
	return c
}

func (s *simulation) consumerOf(sub notify.Subscription) *consumer {
	for _, c := range s.consumers {
		if c.endpoint == sub.Endpoints[0] {
			return c
		}
	}
	panic(violation{fmt.Sprintf("subscription %s names %v, which does not exist", sub.Name, sub.Endpoints)})
}

// notificationOf is what a sender writes.
func notificationOf(from *host, sub notify.Subscription, h notify.HandOver) notification {
	a := *h.Change.Alarm
	a.Evidence = nil
	body, err := format.Native(format.Fault{
		ID: h.NotificationID, Label: label, Subscription: sub.ID, Alarm: &a,
		Affected: sub.Filter.Affected(&a), Abstract: sub.Role == notify.RoleConsumer, Projects: sub.Filter.Projects,
	})
	if err != nil {
		panic(violation{fmt.Sprintf("write %s: %v", a.Revision, err)})
	}
	return notification{
		id: h.NotificationID, sub: sub.ID, version: sub.Version, alarm: a.ID, home: a.Key.Home, from: from.name, revision: a.Revision,
		standing: a.Standing(), digest: sha256.Sum256(body),
	}
}

// receive takes a request as the present mood has it. answer is called at most once; status 0 is a broken connection.
func (c *consumer) receive(n notification, answer func(status int, retryAfter string)) {
	s := c.s
	reply := func(status int, retryAfter string) func() { return func() { answer(status, retryAfter) } }
	quick := s.between(200*time.Microsecond, 20*time.Millisecond)
	switch c.mood {
	case well:
		s.after(quick, func() { c.take(n); answer(http.StatusNoContent, "") })
	case slow:
		s.after(s.between(300*time.Millisecond, 5*time.Second), func() { c.take(n); answer(http.StatusOK, "") })
	case mute:
		s.after(quick, func() { c.take(n); answer(0, "") })
	case hung:
	case down:
		s.after(quick, reply(0, ""))
	case failing:
		s.after(quick, reply(http.StatusInternalServerError, ""))
	case throttling:
		s.after(quick, reply(http.StatusTooManyRequests, strconv.Itoa(s.rng.IntN(240))))
	case refusing:
		s.after(quick, reply(http.StatusBadRequest, ""))
	case leaving:
		c.left = true
		s.after(quick, reply(http.StatusGone, ""))
	}
}

// take takes a notification in.
func (c *consumer) take(n notification) {
	c.s.check.content(c, n)
	c.know(n.alarm, held{n.home, n.revision, n.standing})
}

func (c *consumer) know(alarm string, h held) {
	if h.revision.Compare(c.holds[alarm].revision) > 0 {
		c.holds[alarm] = h
	}
}
