package notify

import (
	"slices"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

// TestATenantIsNotToldThatAnotherIsHitToo: what it may see has not changed. The administrator is.
func TestATenantIsNotToldThatAnotherIsHitToo(t *testing.T) {
	tenant, other, admin := newConsumer(t, nil), newConsumer(t, nil), newConsumer(t, nil)
	scoped := func(name, url, project string) Subscription {
		s := fileSub(name, url)
		s.Role, s.Filter.Projects = RoleConsumer, []string{project}
		return s
	}
	subs := []Subscription{scoped("tenant", tenant.URL, "p1"), scoped("other", other.URL, "p2"), fileSub("admin", admin.URL)}
	cfg, _ := testConfig(t, t.TempDir())
	n, stop := start(t, cfg, subs...)
	idle := func(told int) {
		t.Helper()
		admin.waitFor(t, told)
		settledAll(t, n)
	}
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	idle(1)
	n.Publish(effects(alarm("a1", 2, correlate.Changed, "p1", "p2")))
	idle(2)
	made, snapshot, err := n.Subscribe(t.Context(), scoped("late", tenant.URL+"/late", "p1"), false)
	if err != nil || len(snapshot) != 1 {
		t.Fatal(snapshot, err)
	}
	stop()
	n, _ = start(t, cfg, subs...)
	n.Publish(effects(alarm("a1", 3, correlate.Changed, "p1")))
	idle(3)
	n.Publish(effects(alarm("a1", 4, correlate.Changed, "p1", "p2", "p1")))
	idle(4)
	n.Publish(effects(alarm("a1", 5, correlate.Cleared)))
	idle(5)
	told := func(c *consumer, subscription string) (counters []string) {
		for _, m := range c.messages() {
			if m.event.Data.Subscription == subscription {
				counters = append(counters, m.event.Data.Alarm.Revision)
			}
		}
		return counters
	}
	for name, test := range map[string]struct {
		got, want []string
	}{
		"tenant": {told(tenant, FileID("prod", "tenant")), []string{"2.1", "2.4", "2.5"}},
		"late":   {told(tenant, made.ID), []string{"2.4", "2.5"}},
		"other":  {told(other, FileID("prod", "other")), []string{"2.2", "2.3", "2.4", "2.5"}},
		"admin":  {told(admin, FileID("prod", "admin")), []string{"2.1", "2.2", "2.3", "2.4", "2.5"}},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s was told %v, want %v", name, test.got, test.want)
		}
	}
}

// TestWhatAnotherHostToldWhileASubscriptionWasNotKnownShowsNothingKnown: the next revision is news again, even if it shows
// what this host had told before.
func TestWhatAnotherHostToldWhileASubscriptionWasNotKnownShowsNothingKnown(t *testing.T) {
	c := newConsumer(t, nil)
	s := fileSub("tenant", c.URL)
	s.Role, s.Filter.Projects = RoleConsumer, []string{"p1"}
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Peers = newOthers()
	n, _ := start(t, cfg, s)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	c.waitFor(t, 1)
	settledAll(t, n)
	if err := n.SetFile(nil); err != nil {
		t.Fatal(err)
	}
	n.Publish(effects(alarm("a1", 2, correlate.Changed, "p1", "p1")))
	n.Told(FileID("prod", "tenant"), "a1", correlate.Revision{Term: 2, Counter: 2})
	n.Publish(effects(alarm("a1", 3, correlate.Changed, "p1")))
	if err := n.SetFile([]Subscription{s}); err != nil {
		t.Fatal(err)
	}
	if m := c.waitFor(t, 2)[1]; m.event.Data.Alarm.Revision != "2.3" {
		t.Errorf("%s", m.body)
	}
}
