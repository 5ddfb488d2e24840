package notify

import (
	"slices"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/correlate"
)

// tenant is a subscription that vnfm-a has made over the API.
func tenant(url string, projects ...string) Subscription {
	return Subscription{
		Name: "of vnfm-a", Endpoints: []string{url}, Origin: OriginAPI, Owner: "vnfm-a", Role: RoleConsumer, Filter: Filter{Projects: projects},
	}
}

// hits are the projects of the domains that a notification names.
func (m message) hits() (projects []string) {
	for _, d := range m.event.Data.Affected {
		projects = append(projects, d.Project)
	}
	return projects
}

func TestWhatItsOwnerHasLostASubscriptionHearsNoMoreAndWhatItGainsItIsOwed(t *testing.T) {
	c := newConsumer(t, nil)
	cfg, _ := testConfig(t, t.TempDir())
	cfg.Owners = Owners{"vnfm-a": {"p1", "p2"}}
	n, stop := start(t, cfg)
	sub, _, err := n.Subscribe(t.Context(), tenant(c.URL, "p1", "p2"), false)
	if err != nil {
		t.Fatal(err)
	}
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1", "p2")))
	if got := c.waitFor(t, 1)[0].hits(); !slices.Equal(got, []string{"p1", "p2"}) {
		t.Fatalf("all is granted: told of %v", got)
	}

	n.SetOwners(Owners{"vnfm-a": {"p1"}})
	n.Publish(effects(alarm("a2", 2, correlate.Raised, "p2"), alarm("a1", 3, correlate.Changed, "p1", "p2"), alarm("a3", 4, correlate.Raised, "p1", "p2")))
	eventually(t, "a3 is told", func() bool { return len(c.revisions("a3")) > 0 })
	settledAll(t, n)
	for _, m := range c.messages()[1:] {
		if slices.Contains(m.hits(), "p2") || strings.Contains(string(m.body), `"p2"`) || m.event.Data.Alarm.ID == "a2" {
			t.Errorf("p2 is lost, and told is %s", m.body)
		}
	}
	if why := n.Subscriptions()[0].Withheld; !strings.Contains(why, `"vnfm-a" may hear no more of p2`) {
		t.Errorf("withheld: %q", why)
	}

	// Nothing at all, across a restart too: the owner lies with the subscription.
	n.SetOwners(Owners{"another": {"p9"}})
	before := len(c.messages())
	n.Publish(effects(alarm("a4", 5, correlate.Raised, "p1")))
	stop()
	cfg.Owners = Owners{"another": {"p9"}}
	n, _ = start(t, cfg)
	if got := n.Subscriptions(); len(got) != 1 || got[0].Owner != "vnfm-a" || !strings.Contains(got[0].Withheld, "is no consumer") {
		t.Fatalf("after the restart: %+v", got)
	}
	n.Publish(effects(alarm("a5", 6, correlate.Raised, "p1")))
	if _, err := n.Deliver(t.Context(), HandOver{Subscription: sub.ID, Version: sub.Version, Change: changes(alarm("a5", 6, correlate.Raised, "p1"))[0]}); err == nil {
		t.Error("a peer's request for it is made from here")
	}
	if got := c.messages(); len(got) != before {
		t.Errorf("told although nothing is granted: %s", got[before].body)
	}

	n.SetOwners(Owners{"vnfm-a": {"p1", "p2"}})
	eventually(t, "all that stands is told", func() bool { return len(c.revisions("a4")) > 0 && len(c.revisions("a5")) > 0 })
	if why := n.Subscriptions()[0].Withheld; why != "" {
		t.Errorf("withheld: %q", why)
	}
}

func TestAHostThatNamesNoConsumerDoesNotJudge(t *testing.T) {
	s := tenant("http://consumer/", "p1")
	if told, withheld, nothing := s.within(nil); withheld != "" || nothing || !slices.Equal(told.Filter.Projects, []string{"p1"}) {
		t.Errorf("%+v, %q, %t", told, withheld, nothing)
	}
	s.Owner = ""
	if _, withheld, nothing := s.within(Owners{}); withheld != "" || nothing {
		t.Errorf("an administrator's: %q, %t", withheld, nothing)
	}
}
