package gossip

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// world is three hosts, what is true of each, and the messages that are on their way: any of them may arrive at any time, at
// any host, often or never.
type world struct {
	t      *rapid.T
	now    time.Time
	hosts  []*Replica
	truth  []map[Key]string
	terms  []uint64 // on the disks
	onWay  []Record
	shared map[Key]Record // the newest write of each
}

func (w *world) sent(records []Record) {
	w.onWay = append(w.onWay, records...)
	for _, rec := range records {
		if old, ok := w.shared[rec.Key]; rec.Space == Shared && rec.Kind != KindForget && (!ok || compare(&old, &rec) < 0) {
			w.shared[rec.Key] = rec
		}
	}
}

// took acts on a result as an agent does: it takes a higher term when told, and says all again.
func (w *world) took(i int, res Result) {
	if res.OwnTerm != 0 && res.OwnTerm >= w.hosts[i].Term() {
		w.claim(i, res.OwnTerm)
	}
}

func (w *world) claim(i int, above uint64) {
	r := w.hosts[i]
	w.terms[i] = above + 2 - above%2
	res, err := r.SetTerm(w.now, w.terms[i])
	if err != nil {
		w.t.Fatal(err)
	}
	w.sent(res.Changed)
	w.restate(i)
	if res.OwnTerm != 0 {
		w.claim(i, res.OwnTerm)
	}
}

func (w *world) restate(i int) {
	for key, payload := range w.truth[i] {
		rec, changed, err := w.hosts[i].Set(w.now, key.Kind, key.ID, []byte(payload))
		if err != nil {
			w.t.Fatal(err)
		}
		if changed {
			w.sent([]Record{rec})
		}
	}
	w.hosts[i].Restated(w.now)
}

func (w *world) start(i int) {
	r, err := New(Config{Self: fmt.Sprint("h", i), Term: w.terms[i]})
	if err != nil {
		w.t.Fatal(err)
	}
	w.hosts[i] = r
	if r.Term() != 0 {
		w.restate(i)
	}
}

// talk lets each pair repair once.
func (w *world) talk() {
	type mail struct {
		from, to int
		body     []byte
	}
	for i, from := range w.hosts {
		for j := range w.hosts {
			if i == j {
				continue
			}
			for queue := []mail{{i, j, from.Digest(w.now)}}; len(queue) > 0; queue = queue[1:] {
				m := queue[0]
				res, err := w.hosts[m.to].Handle(w.now, w.hosts[m.from].Self(), m.body)
				if err != nil {
					w.t.Fatal(err)
				}
				w.took(m.to, res)
				for _, reply := range res.Replies {
					queue = append(queue, mail{m.to, m.from, reply})
				}
			}
		}
	}
}

// Whatever happens in whatever order, once all talk again they hold the same: of each host what is true of it, and of each
// shared record the last write.
func TestAnyScheduleEndsInOneStateThatIsTrue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{t: t, now: noon, hosts: make([]*Replica, 3), terms: []uint64{2, 2, 2}, shared: map[Key]Record{}}
		for i := range w.hosts {
			w.truth = append(w.truth, map[Key]string{})
			w.start(i)
		}
		host := rapid.IntRange(0, 2)
		id := rapid.SampledFrom([]string{"x", "y"})
		kind := rapid.SampledFrom([]Kind{KindAlarm, KindDelivery})
		payload := rapid.SampledFrom([]string{"", "1", "2"})
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				for _, r := range w.hosts {
					checkIndex(t, r)
				}
			},
			"set": func(t *rapid.T) {
				i, k, id, p := host.Draw(t, "host"), kind.Draw(t, "kind"), id.Draw(t, "id"), payload.Draw(t, "payload")
				r := w.hosts[i]
				w.truth[i][Key{r.Self(), k, id}] = p
				if r.Term() != 0 {
					rec, changed, err := r.Set(w.now, k, id, []byte(p))
					if err != nil {
						t.Fatal(err)
					}
					if changed {
						w.sent([]Record{rec})
					}
				}
			},
			"delete": func(t *rapid.T) {
				i, k, id := host.Draw(t, "host"), kind.Draw(t, "kind"), id.Draw(t, "id")
				r := w.hosts[i]
				delete(w.truth[i], Key{r.Self(), k, id})
				if r.Term() != 0 {
					rec, changed, err := r.Delete(w.now, k, id)
					if err != nil {
						t.Fatal(err)
					}
					if changed {
						w.sent([]Record{rec})
					}
				}
			},
			"share": func(t *rapid.T) {
				r := w.hosts[host.Draw(t, "host")]
				write := func() (Record, bool, error) {
					if rapid.Bool().Draw(t, "delete") {
						return r.DeleteShared(w.now, KindAck, id.Draw(t, "id"))
					}
					return r.SetShared(w.now, KindAck, id.Draw(t, "id"), []byte(payload.Draw(t, "payload")))
				}
				if rec, changed, err := write(); err != nil {
					t.Fatal(err)
				} else if changed {
					w.sent([]Record{rec})
				}
			},
			"arrive": func(t *rapid.T) {
				if len(w.onWay) == 0 {
					t.Skip("nothing is on its way")
				}
				i := host.Draw(t, "host")
				some := rapid.SliceOfN(rapid.SampledFrom(w.onWay), 1, 5).Draw(t, "records")
				w.took(i, w.hosts[i].Merge(w.now, some))
			},
			"talk": func(*rapid.T) { w.talk() },
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
				for i, r := range w.hosts {
					res := r.Tick(w.now)
					w.sent(res.Changed)
					w.took(i, res)
				}
			},
			"restart": func(t *rapid.T) {
				i := host.Draw(t, "host")
				if w.terms[i] != 0 {
					w.terms[i] += 2
				}
				disk := slices.Collect(w.hosts[i].Records())
				w.start(i)
				w.took(i, w.hosts[i].Restore(w.now, w.now, disk))
			},
			"reimage": func(t *rapid.T) {
				i := host.Draw(t, "host")
				w.talk() // what it alone holds of the shared ones is lost with it, and rightly
				w.terms[i] = 0
				clear(w.truth[i])
				w.start(i)
			},
			"claim": func(t *rapid.T) {
				if i := host.Draw(t, "host"); w.hosts[i].Term() == 0 {
					w.claim(i, w.hosts[i].SeenTerm())
				}
			},
			"speak": func(t *rapid.T) {
				i, dead := host.Draw(t, "speaker"), host.Draw(t, "dead")
				if i == dead {
					t.Skip("of itself it speaks otherwise")
				}
				rec := Record{
					Key:     Key{fmt.Sprint("h", dead), KindAlarm, id.Draw(t, "id")},
					Version: Version{A: 3 + 2*rapid.Uint64Range(0, 2).Draw(t, "term"), B: 1, Node: w.hosts[i].Self()}, Payload: []byte("lost"),
				}
				w.took(i, w.hosts[i].Merge(w.now, []Record{rec}))
				w.sent([]Record{rec})
			},
			"forget": func(t *rapid.T) {
				i, gone := host.Draw(t, "host"), host.Draw(t, "gone")
				if i == gone {
					t.Skip("not oneself")
				}
				res, err := w.hosts[i].Forget(w.now, w.hosts[gone].Self())
				if err != nil {
					t.Fatal(err)
				}
				w.sent(res.Changed)
			},
		})
		for range 12 {
			for i, r := range w.hosts {
				if r.Term() == 0 {
					w.claim(i, r.SeenTerm())
				}
			}
			w.now = w.now.Add(FloorDelay)
			for i, r := range w.hosts {
				w.took(i, r.Tick(w.now))
			}
			w.talk()
		}
		for i, r := range w.hosts {
			if diff := cmp.Diff(contents(w.hosts[0]), contents(r)); diff != "" {
				t.Fatalf("h0 and h%d do not hold the same:\n%s", i, diff)
			}
			known := map[Key]string{}
			for rec := range w.hosts[0].Records() {
				if rec.Space == r.Self() && !rec.Deleted && rec.Kind != KindFloor {
					known[rec.Key] = string(rec.Payload)
				}
			}
			if diff := cmp.Diff(w.truth[i], known); diff != "" {
				t.Fatalf("h%d is known otherwise than it is (-true +known):\n%s\nheld: %v", i, diff, contents(r))
			}
		}
		for key, want := range w.shared {
			if got := w.hosts[0].lookup(key); got == nil || compare(&got.Record, &want) != 0 {
				t.Fatalf("of %v the last write was %+v, held is %+v", key, want, got)
			}
		}
	})
}
