package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
)

// keys is GET /v1/keys.
type keys struct {
	Keys []struct {
		ID    string `json:"id"`
		InUse bool   `json:"in_use"`
	} `json:"keys"`
	Behind []string `json:"behind"`
}

// key takes one step of a rotation at one agent, and wants all to have taken it.
func key(a *fleet.Agent, method, path string, body any) (k keys) {
	a.T.Helper()
	began := time.Now()
	out, err := a.Call(method, "/v1/keys"+path, body, http.StatusOK)
	fleet.Must(a.T, err)
	fleet.Must(a.T, json.Unmarshal(out, &k))
	if len(k.Behind) != 0 {
		a.T.Errorf("%s %s: behind are %v", method, path, k.Behind)
	}
	a.T.Logf("%s at %s: %v", method, a.Name, time.Since(began))
	return k
}

func TestKeysAreRotatedWhileFaultsAreTold(t *testing.T) {
	c := w.Consume(t, "a")
	all := w.Form(t, 5)
	c.Subscribe(all[0])
	all.Level(fleet.Patience)

	// Faults come and go all the while.
	stop := make(chan struct{})
	var faults sync.WaitGroup
	var failed error
	var told atomic.Int32
	faults.Go(func() {
		for n := 0; failed == nil; n++ {
			select {
			case <-stop:
				return
			default:
			}
			a := all[n%len(all)]
			c.Forget()
			if failed = a.Uplink.Pull(); failed == nil {
				_, failed = c.Wait(fleet.Patience, fleet.Is("raised", "carrier", a.Machine))
			}
			if failed == nil {
				failed = a.Uplink.Plug()
			}
			if failed == nil {
				_, failed = c.Wait(fleet.Patience, fleet.Is("cleared", "carrier", a.Machine))
			}
			told.Add(1)
		}
	})
	lost := make(chan string, 1) // the first time that somebody misses somebody
	watch := time.NewTicker(50 * time.Millisecond)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-watch.C:
				for _, a := range all {
					if v, err := a.View(); err != nil || len(v.Members) != len(all) {
						select {
						case lost <- fmt.Sprintf("%s sees the members %v (%v)", a.Name, v.Members, err):
						default:
						}
					}
				}
			}
		}
	})
	defer watch.Stop()

	more := func() { // faults, between the steps
		t.Helper()
		before := told.Load()
		fleet.Within(t, fleet.Patience, "a fault to come and go", func() error {
			if now := told.Load(); now < before+2 {
				return fmt.Errorf("%d did", now-before)
			}
			return nil
		})
	}
	more()
	// Each step answers when all hosts that are there have taken it.
	before := key(all[1], http.MethodGet, "", nil)
	fresh := strings.TrimSpace(w.NewKey(t, "--gossip"))
	added := key(all[1], http.MethodPost, "", map[string]string{"key": fresh})
	old, id := before.Keys[0].ID, added.Keys[len(added.Keys)-1].ID
	if len(added.Keys) != 2 || added.Keys[0].ID != old {
		t.Errorf("from %+v to %+v", before, added)
	}
	more()
	if used := key(all[1], http.MethodPost, "/"+id+"/use", nil); used.Keys[0].ID != id || !used.Keys[0].InUse {
		t.Errorf("in use is %+v, want %s", used, id)
	}
	more()
	key(all[1], http.MethodDelete, "/"+old, nil)
	for _, a := range all {
		fleet.Within(t, fleet.Patience, a.Name+" to know that all have taken the last step", func() error {
			var k keys
			if err := a.Read("/v1/keys", &k); err != nil {
				return err
			}
			if len(k.Keys) != 1 || k.Keys[0].ID != id || len(k.Behind) != 0 {
				return fmt.Errorf("it has %+v", k)
			}
			return nil
		})
	}
	more()
	all.Level(fleet.Patience)
	close(stop)
	faults.Wait()
	watcher.Wait()
	fleet.Must(t, failed)
	t.Logf("%d faults came and went meanwhile", told.Load())
	select {
	case what := <-lost:
		t.Error(what)
	default:
	}

	// The operator's way of looking, and a restart that still has the old key file.
	out, err := all[0].Command("keys")
	fleet.Must(t, err)
	if !strings.Contains(out, id) || strings.Contains(out, old) || strings.Contains(out, fresh) {
		t.Errorf("keys shows:\n%s", out)
	}
	all[4:].KillAll()
	all[4:].StartAll()
	all.Level(fleet.Patience)
}
