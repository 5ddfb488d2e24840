package sim

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// mood is how a consumer behaves at present.
type mood string

const (
	well       mood = "well"
	slow       mood = "slow"       // answers in time, mostly
	hung       mood = "hung"       // takes connections and never answers
	down       mood = "down"       // refuses connections
	failing    mood = "failing"    // 500
	throttling mood = "throttling" // 429 or 503, with Retry-After
	refusing   mood = "refusing"   // 400, which parks
	leaving    mood = "leaving"    // 410, which pauses
	mute       mood = "mute"       // takes the notification in, and the answer is lost
)

var moods = []mood{well, well, well, slow, hung, down, failing, throttling, refusing, leaving, mute}

// consumer is one who is told: it keeps what it has taken in, and drops a revision that is not newer (the contract).
type consumer struct {
	s            *simulation
	sub          notify.Subscription
	limits       delivery.Config
	unsubscribed bool // paused by its own 410, until an operator resumes it
	mood         mood
	life         int // counts its crashes: a request of an earlier life is never answered
	holds        map[string]held
	taken        map[string]content // by notification id
}

// held is what a consumer believes of an alarm.
type held struct {
	revision correlate.Revision
	standing bool
}

type content struct {
	alarm    string
	revision correlate.Revision
	digest   [sha256.Size]byte
}

// notification is what arrives.
type notification struct {
	id       string
	alarm    string
	revision correlate.Revision
	standing bool
	digest   [sha256.Size]byte // of what must be the same whoever sends it, and whenever
}

// newConsumers makes one for each kind of wish.
func newConsumers(s *simulation) []*consumer {
	filters := []struct {
		name   string
		role   notify.Role
		filter notify.Filter
	}{
		{"all", notify.RoleAdmin, notify.Filter{}},
		{"tenant", notify.RoleConsumer, notify.Filter{Projects: []string{"p1"}}},
		{"critical", notify.RoleAdmin, notify.Filter{MinSeverity: correlate.SeverityCritical}},
		{"domains", notify.RoleAdmin, notify.Filter{ResourceTypes: []correlate.Kind{correlate.KindDomain}}},
		{"at-risk", notify.RoleAdmin, notify.Filter{States: []correlate.State{correlate.StateAtRisk, correlate.StateFailed}}},
	}
	var all []*consumer
	for _, f := range filters {
		limits := delivery.DefaultConfig()
		if s.chance(0.2) {
			limits.MaxAge = 20 * time.Second // so that age parks, too
		}
		all = append(all, &consumer{
			s: s, limits: limits, mood: well, holds: map[string]held{}, taken: map[string]content{},
			sub: notify.Subscription{ID: notify.FileID("sim", f.name), Version: 1, Name: f.name, Role: f.role, Filter: f.filter},
		})
	}
	return all
}

// notificationOf is what the sender writes of a revision.
func notificationOf(sub notify.Subscription, a *correlate.Alarm) notification {
	bare := *a
	bare.Evidence = nil
	body, err := format.Native(format.Fault{
		ID: notify.NotificationID(a.ID, a.Revision, sub.ID, sub.Version), Label: "sim", Subscription: sub.ID, Alarm: &bare,
		Affected: sub.Filter.Affected(a), Abstract: sub.Role == notify.RoleConsumer, Projects: sub.Filter.Projects,
	})
	if err != nil {
		panic(violation{fmt.Sprintf("write %s: %v", a.Revision, err)})
	}
	return notification{
		id: notify.NotificationID(a.ID, a.Revision, sub.ID, sub.Version), alarm: a.ID, revision: a.Revision,
		standing: a.Standing(), digest: sha256.Sum256(body),
	}
}

// receive takes a request as the present mood has it. answer is called at most once; status 0 is a broken connection.
func (c *consumer) receive(n notification, answer func(status int, retryAfter string)) {
	s, life := c.s, c.life
	in := func(d time.Duration, do func()) {
		s.after(d, "", func() {
			if c.life == life {
				do()
			} else {
				answer(0, "")
			}
		})
	}
	reply := func(status int, retryAfter string) func() { return func() { answer(status, retryAfter) } }
	quick := s.between(200*time.Microsecond, 20*time.Millisecond)
	switch c.mood {
	case well:
		in(quick, func() { c.take(n); answer(http.StatusNoContent, "") })
	case slow:
		in(s.between(300*time.Millisecond, 20*time.Second), func() { c.take(n); answer(http.StatusOK, "") })
	case mute:
		in(quick, func() { c.take(n); answer(0, "") })
	case hung:
	case down:
		in(quick, reply(0, ""))
	case failing:
		in(quick, reply(http.StatusInternalServerError, ""))
	case throttling:
		in(quick, reply(http.StatusTooManyRequests, strconv.Itoa(s.rng.IntN(240))))
	case refusing:
		in(quick, reply(http.StatusBadRequest, ""))
	case leaving:
		in(quick, reply(http.StatusGone, ""))
	}
}

// take takes a notification in.
func (c *consumer) take(n notification) {
	c.s.check.content(c, n)
	if c.s.cfg.Bug == SwallowsDeliveries && c.s.chance(0.02) {
		return
	}
	was := c.holds[n.alarm]
	if n.revision.Compare(was.revision) <= 0 && c.s.cfg.Bug != TakesStale {
		return
	}
	c.s.check.taken(c, n, was.revision)
	c.holds[n.alarm] = held{n.revision, n.standing}
}

// crash ends the requests that it has under way; what it has taken in stays.
func (c *consumer) crash() { c.life++ }
