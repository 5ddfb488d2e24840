package cluster

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

// couriers are two hosts with a wire between them; lose eats messages, counted from 1.
func couriers(t *testing.T, handIn HandIn, lose func(n int64, to string) bool) (here, there *courier) {
	var n atomic.Int64
	byName := map[string]*courier{}
	for _, name := range []string{"cmp-1", "cmp-2"} {
		byName[name] = newCourier(slog.New(slog.DiscardHandler), func(to string, msg []byte) error {
			other := byName[to]
			if other == nil {
				return gossip.ErrUnknownNode
			}
			if lose != nil && lose(n.Add(1), to) {
				return nil
			}
			go func() {
				kind, body, err := openMessage(msg)
				if err == nil {
					err = other.heard(name, kind, body)
				}
				if err != nil {
					t.Errorf("%s can't read it: %v", to, err)
				}
			}()
			return nil
		})
	}
	byName["cmp-2"].open(handIn)
	t.Cleanup(func() { byName["cmp-1"].close(); byName["cmp-2"].close() })
	return byName["cmp-1"], byName["cmp-2"]
}

func accept(counted *atomic.Int64) HandIn {
	return func(_ context.Context, from southbound.Origin, items []southbound.Item) ([]southbound.Verdict, error) {
		counted.Add(1)
		verdicts := make([]southbound.Verdict, len(items))
		for i, item := range items {
			verdicts[i] = southbound.Verdict{Word: southbound.Accepted, Text: fmt.Sprintf("%s of %s by %s", item.Type, from.Peer, from.Caller)}
		}
		return verdicts, nil
	}
}

func TestEventsAreJudgedOnceHoweverOftenAMessageIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var judged atomic.Int64
		here, _ := couriers(t, accept(&judged), func(n int64, _ string) bool { return n != 3 && n < 6 })
		got, err := here.handOn(t.Context(), "cmp-2", southbound.Origin{Caller: "collectd", Peer: "cmp-1"}, []southbound.Item{{Type: "x.y"}, {Type: "z"}})
		if err != nil || len(got) != 2 || got[0].Text != "x.y of cmp-1 by collectd" || got[1].Word != southbound.Accepted || judged.Load() != 1 {
			t.Errorf("%+v, %v, judged %d times", got, err, judged.Load())
		}
	})
}

func TestWhatDoesNotFitIntoOneMessageGoesInSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var judged atomic.Int64
		here, _ := couriers(t, accept(&judged), nil)
		items, r := make([]southbound.Item, southbound.MaxItems), rand.New(rand.NewPCG(1, 2)) //nolint:gosec // only hard to compress
		for i := range items {
			items[i] = southbound.Item{Type: fmt.Sprint("t", i), Details: map[string]string{"text": noise(r, 2000)}}
		}
		got, err := here.handOn(t.Context(), "cmp-2", southbound.Origin{}, items)
		if err != nil || len(got) != len(items) || !strings.HasPrefix(got[999].Text, "t999 ") || judged.Load() < 2 {
			t.Errorf("%d verdicts, %v, judged %d times", len(got), err, judged.Load())
		}
	})
}

func TestAHostThatDoesNotJudgeSaysWhyOrIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := func(context.Context, southbound.Origin, []southbound.Item) ([]southbound.Verdict, error) {
			return nil, errors.New("its agent is starting")
		}
		here, there := couriers(t, refuse, nil)
		items := []southbound.Item{{Type: "x.y"}}
		if _, err := here.handOn(t.Context(), "cmp-2", southbound.Origin{}, items); err == nil || err.Error() != "its agent is starting" {
			t.Error(err)
		}
		if _, err := here.handOn(t.Context(), "cmp-9", southbound.Origin{}, items); !errors.Is(err, gossip.ErrUnknownNode) {
			t.Error(err)
		}
		there.open(nil)
		if _, err := here.handOn(t.Context(), "cmp-2", southbound.Origin{}, items); err == nil || !strings.Contains(err.Error(), "starting or stopping") {
			t.Error(err)
		}
		there.open(func(ctx context.Context, _ southbound.Origin, _ []southbound.Item) ([]southbound.Verdict, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		begin := time.Now()
		if _, err := here.handOn(t.Context(), "cmp-2", southbound.Origin{}, items); err == nil || time.Since(begin) > eventsLimit {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		silent, _ := couriers(t, refuse, func(int64, string) bool { return true })
		begin = time.Now()
		if _, err := silent.handOn(t.Context(), "cmp-2", southbound.Origin{}, items); err == nil || err.Error() != "it does not answer" || time.Since(begin) != eventsLimit {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func FuzzEvents(f *testing.F) {
	f.Add([]byte(`{"id":1,"caller":"collectd","items":[{"Type":"x.y","Hostname":"cmp-2","Severity":4,"Details":{"a":"b"}}]}`), true)
	f.Add([]byte(`{"id":1,"verdicts":[{"Word":"accepted"},{"Word":"refused","Text":"why"}]}`), false)
	f.Fuzz(func(t *testing.T, body []byte, events bool) {
		if !events {
			if a, err := decodeVerdicts(body); err == nil && len(a.Refused) > len(body) {
				t.Fatalf("%+v", a)
			}
			return
		}
		b, err := decodeEvents(body)
		if err != nil {
			return
		}
		desk := southbound.NewDesk(southbound.Config{
			Node: "cmp-2", Now: func() time.Time { return time.Unix(1_700_000_000, 0) }, Apply: nothingStands,
		})
		if verdicts, err := desk.Take(t.Context(), southbound.Origin{Caller: b.Caller, Peer: "cmp-1"}, b.Items); err != nil || len(verdicts) != len(b.Items) {
			t.Fatalf("%d verdicts on %d items, %v", len(verdicts), len(b.Items), err)
		}
	})
}

// noise is text that does not get shorter when it is packed.
func noise(r *rand.Rand, n int) string {
	b := make([]byte, n/2)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return hex.EncodeToString(b)
}

// nothingStands is an engine for which every event changes nothing.
func nothingStands(_ context.Context, events []correlate.Event, _ int) ([]southbound.Outcome, error) {
	return make([]southbound.Outcome, len(events)), nil
}
