package notify

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// verdicts are the outcomes of an attempt, each a series from the first scrape on.
var verdicts = []delivery.Verdict{delivery.Settled, delivery.Retry, delivery.Park, delivery.Pause}

// handOvers are the outcomes of a request that a peer was asked to make: failed is that none could.
var handOvers = []string{delivery.Settled.String(), delivery.Retry.String(), delivery.Park.String(), delivery.Pause.String(), "failed"}

// delays are the upper bounds of the histogram of a subscription's delays, in seconds.
var delays = [...]float64{0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 15, 60, 600, 3600}

// ownSeries is how many subscriptions of the file, and how many made over the API, have series of their own. Each has about 30: a host
// has no more than some 4000 of them, however many consumers there are.
const ownSeries = 64

// otherSeries is the label of what the other subscriptions come to together.
const otherSeries = "(others)"

// seats say which subscriptions have series of their own: those that came first. Who ends gives its place to the next that comes; nobody
// moves meanwhile, since a counter may not go back. Safe for concurrent use; a leaf in the order of locks.
type seats struct {
	others tally

	mu    sync.Mutex
	taken map[Origin]map[string]bool // by owner
}

func newSeats() *seats {
	return &seats{taken: map[Origin]map[string]bool{OriginFile: {}, OriginAPI: {}}}
}

// take returns own when there is a place for the subscription.
func (s *seats) take(sub Subscription, own *tally) *tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.taken[OriginAPI]
	if sub.Origin == OriginFile {
		taken = s.taken[OriginFile]
	}
	if sub.series() == otherSeries || len(taken) >= ownSeries && !taken[sub.ID] {
		return &s.others
	}
	taken[sub.ID] = true
	return own
}

func (s *seats) leave(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, taken := range s.taken {
		delete(taken, owner)
	}
}

// tally counts what became of one subscription's deliveries, at all its endpoints. It ends with the subscription, and its series with it. Safe for
// concurrent use; a leaf in the order of locks.
type tally struct {
	mu         sync.Mutex
	attempts   map[delivery.Verdict]uint64
	handovers  map[string]uint64
	superseded uint64
	evicted    uint64
	within     [len(delays)]uint64 // settled ones that took that long at most, and longer than the bound before
	settled    uint64
	seconds    float64 // of them together
}

func (t *tally) attempt(v delivery.Verdict) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempts == nil {
		t.attempts = map[delivery.Verdict]uint64{}
	}
	t.attempts[v]++
}

func (t *tally) handOver(outcome string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.handovers == nil {
		t.handovers = map[string]uint64{}
	}
	t.handovers[outcome]++
}

func (t *tally) replaced() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.superseded++
}

func (t *tally) dropped(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.evicted += uint64(n)
}

// told counts a settled delivery by how long after the decision that was.
func (t *tally) told(after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := max(0, after).Seconds()
	t.settled++
	t.seconds += s
	if i, _ := slices.BinarySearch(delays[:], s); i < len(delays) {
		t.within[i]++
	}
}

// series is the label of a subscription: the names of API subscriptions need not be unique.
func (s Subscription) series() string {
	if s.Origin == OriginAPI {
		return s.Name + "/" + s.ID
	}
	return s.Name
}

func perSubscription(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"subscription"}, labels...), nil)
}

var (
	descAttempts   = perSubscription("paramedic_notify_attempts_total", "Requests to consumers, by what came of them.", "outcome")
	descHandovers  = perSubscription("paramedic_notify_handovers_total", "Requests handed over to a peer, by what came of them; failed: no peer could.", "outcome")
	descSuperseded = perSubscription("paramedic_notify_superseded_total", "Revisions that a newer one replaced before they were delivered.")
	descEvicted    = perSubscription("paramedic_notify_evicted_total", "Deliveries dropped because a subscription's queue was full; what stands is owed again when there is room.")
	descDelay      = perSubscription("paramedic_notify_delivery_seconds", "Time of settled deliveries from T02, the affected resources found (or from T03, of what stood before its consumer wanted it), to the consumer's answer, with all retries.")
	descQueue      = perSubscription("paramedic_notify_deliveries", "Deliveries by state: pending, in-flight, parked.", "state")
	descOldest     = perSubscription("paramedic_notify_oldest_pending_seconds", "How long the oldest delivery that is neither settled nor parked has been owed; 0 when there is none.")
	descPaused     = perSubscription("paramedic_notify_paused", "1 while nothing is sent, paused by an operator or by the consumer's 410; of the others, how many.")
	descFailing    = perSubscription("paramedic_notify_failing_seconds", "How long every attempt has failed; 0 when the last one did not.")
)

var descOthers = prometheus.NewDesc("paramedic_notify_other_subscriptions", "Subscriptions that have no series of their own: what they come to is that of (others).", nil, nil)

// tallies reads what every subscription has counted and owes when asked.
type tallies struct{ n *Notifier }

// Describe is part of prometheus.Collector.
func (c tallies) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descAttempts, descHandovers, descSuperseded, descEvicted, descDelay, descQueue, descOldest, descPaused, descFailing, descOthers} {
		ch <- d
	}
}

// Collect is part of prometheus.Collector.
func (c tallies) Collect(ch chan<- prometheus.Metric) {
	now := c.n.cfg.Now()
	seen := map[string]bool{}
	rest, others := &c.n.metrics.seats.others, standing{}
	var leads []*worker
	owed := map[string]*standing{}
	for _, w := range c.n.list() {
		if owed[w.owner] == nil {
			owed[w.owner] = new(standing)
			leads = append(leads, w)
		}
		owed[w.owner].add(w, now)
	}
	for _, lead := range leads {
		s, is := lead.subscription(), owed[lead.owner]
		if s.Paused != "" {
			is.paused = 1
		}
		if lead.kin.tally == rest {
			others.join(*is)
			continue
		}
		if series := s.series(); !seen[series] { // a file's name may end like the id of one of the API: two of a series would fail the scrape
			seen[series] = true
			is.collect(ch, series)
			lead.kin.tally.collect(ch, series)
		}
	}
	if others.subscriptions > 0 || rest.used() {
		others.collect(ch, otherSeries)
		rest.collect(ch, otherSeries)
	}
	ch <- prometheus.MustNewConstMetric(descOthers, prometheus.GaugeValue, float64(others.subscriptions))
}

// standing is what a subscription owes, at all its endpoints, or several do together: the sum, and the worst.
type standing struct {
	pending, inFlight, parked int
	oldest, failing           float64 // seconds
	paused                    int
	subscriptions             int // that were joined
}

func (s *standing) add(w *worker, now time.Time) {
	since := func(at time.Time) float64 {
		if at.IsZero() {
			return 0
		}
		return max(0, now.Sub(at)).Seconds()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	owed, parked, flying := w.machine.Counts()
	s.oldest, s.failing = max(s.oldest, since(w.machine.OldestOwed())), max(s.failing, since(w.machine.FailingSince()))
	s.pending += max(0, owed-parked-flying)
	s.inFlight += flying
	s.parked += parked
}

func (s *standing) join(o standing) {
	s.pending += o.pending
	s.inFlight += o.inFlight
	s.parked += o.parked
	s.oldest, s.failing = max(s.oldest, o.oldest), max(s.failing, o.failing)
	s.paused += o.paused
	s.subscriptions++
}

func (s *standing) collect(ch chan<- prometheus.Metric, series string) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{series}, labels...)...)
	}
	gauge(descQueue, float64(s.pending), "pending")
	gauge(descQueue, float64(s.inFlight), "in-flight")
	gauge(descQueue, float64(s.parked), "parked")
	gauge(descOldest, s.oldest)
	gauge(descFailing, s.failing)
	gauge(descPaused, float64(s.paused))
}

// used reports whether anything was ever counted.
func (t *tally) used() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.attempts)+len(t.handovers) > 0 || t.superseded+t.evicted > 0
}

func (t *tally) collect(ch chan<- prometheus.Metric, series string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{series}, labels...)...)
	}
	for _, v := range verdicts {
		count(descAttempts, t.attempts[v], v.String())
	}
	for _, outcome := range handOvers {
		count(descHandovers, t.handovers[outcome], outcome)
	}
	count(descSuperseded, t.superseded)
	count(descEvicted, t.evicted)
	buckets, sum := make(map[float64]uint64, len(delays)), uint64(0)
	for i, bound := range delays {
		sum += t.within[i]
		buckets[bound] = sum
	}
	ch <- prometheus.MustNewConstHistogram(descDelay, t.settled, t.seconds, buckets, series)
}
