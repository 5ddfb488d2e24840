package fleet

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// Consumer is somebody who wants to hear of everything.
type Consumer struct {
	*lab.Receiver
	Name   string
	Key    []byte
	Filter map[string]any // of its subscription; nil: everything, as the agent's defaults say
	// Heartbeat is how often it wants to be told that all is watched; empty: never.
	Heartbeat string
}

// Consume starts a consumer.
func (f *Fleet) Consume(t *testing.T, name string) *Consumer {
	t.Helper()
	key := []byte(strings.Repeat(name+"-key-", 8)[:32])
	r, err := f.Consumers.Receiver(ConsumerAddr+":0", key)
	Must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return &Consumer{Receiver: r, Name: name, Key: key}
}

// Secret is the key as an agent is told it.
func (c *Consumer) Secret() string { return "whsec_" + base64.StdEncoding.EncodeToString(c.Key) }

// Subscribe is a POST at this agent, verified by the signed challenge. It returns the subscription's id and how many
// alarms the snapshot had.
func (c *Consumer) Subscribe(at *Agent) (id string, snapshot []Alarm) {
	at.T.Helper()
	body := map[string]any{"name": c.Name, "endpoints": []string{c.URL}, "secret": c.Secret()}
	if c.Filter != nil {
		body["filter"] = c.Filter
	}
	if c.Heartbeat != "" {
		body["heartbeat"] = c.Heartbeat
	}
	var out []byte
	// Where datagrams are lost the challenge may take too long, and the operator tries again.
	Within(at.T, Patience, "the subscription", func() (err error) {
		out, err = at.Call(http.MethodPost, "/v1/subscriptions", body, http.StatusCreated)
		return err
	})
	var answer struct {
		Subscription Subscription `json:"subscription"`
		Snapshot     []Alarm      `json:"snapshot"`
	}
	Must(at.T, json.Unmarshal(out, &answer))
	return answer.Subscription.ID, answer.Snapshot
}

// Is matches notifications by transition (raised, changed, cleared), condition and home.
func Is(transition, condition string, home *Machine) func(lab.Notification) bool {
	return func(n lab.Notification) bool {
		return n.Type == "paramedic.fault."+transition && n.Data.Alarm.Condition == condition && n.Data.Host == home.Name
	}
}

// Hears waits for a notification and checks it as a strict consumer does.
func (c *Consumer) Hears(t *testing.T, transition, condition string, home *Machine) lab.Notification {
	t.Helper()
	n, err := c.Wait(Patience, Is(transition, condition, home))
	if err != nil {
		t.Fatalf("%s waits for %s %s of %s: %v", c.Name, condition, transition, home.Name, err)
	}
	if len(n.Trouble) > 0 {
		t.Errorf("%s objects to %s: %v\n%s", c.Name, n, n.Trouble, n.Body)
	}
	return n
}

// Once fails unless each (alarm, revision) came under one id, each id for one of them, and none came twice.
func (c *Consumer) Once(t *testing.T) {
	t.Helper()
	seen := c.Identities(t)
	for key, count := range seen {
		if count > 1 {
			t.Errorf("%s was told %s %d times", c.Name, key, count)
		}
	}
}

// Identities counts how often each (alarm, revision) came. None may come under two ids, which a consumer could not fold.
func (c *Consumer) Identities(t *testing.T) map[string]int {
	t.Helper()
	ids, keys, count := map[string]string{}, map[string]string{}, map[string]int{}
	for _, n := range c.All() {
		key := n.Data.Alarm.ID + " " + n.Data.Alarm.Revision + " " + n.Data.Subscription
		if id, ok := ids[key]; ok && id != n.ID {
			t.Errorf("%s was told %s under two ids, %s and %s", c.Name, key, id, n.ID)
		}
		if k, ok := keys[n.ID]; ok && k != key {
			t.Errorf("%s was told %s and %s under one id %s", c.Name, key, k, n.ID)
		}
		ids[key], keys[n.ID] = n.ID, key
		count[key]++
	}
	return count
}
