package hostloss

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/fleet"
	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
	"github.com/paramedic-ha/paramedic/correlate"
)

const (
	// size of the whole lab. Small clusters are made of its first hosts.
	size = 20
	// withDomains is how many of them have a libvirtd with domains, so many each.
	withDomains    = 2
	domainsOfAHost = 2
)

var w fleet.Fleet

func TestMain(m *testing.M) { os.Exit(w.Run(m, size, startDomains)) }

func startDomains() error {
	for _, m := range w.Machines[:withDomains] {
		lv, err := m.Host.Libvirt()
		if err != nil {
			return err
		}
		m.Libvirt = lv
		for i, name := range domainsOf(m) {
			if err := lv.StartDomain(lab.Domain{Name: name, UUID: fmt.Sprintf("d0000000-0000-4000-8000-%06d%06d", m.N, i)}); err != nil {
				return err
			}
		}
	}
	return nil
}

// domainsOf are the names of the domains that run on a host, in order.
func domainsOf(m *fleet.Machine) (names []string) {
	if m.Libvirt == nil {
		return nil
	}
	for i := range domainsOfAHost {
		names = append(names, fmt.Sprintf("vm-%d-%d", m.N, i))
	}
	return names
}

// listeners are those who are told: one who wants to hear at once, and one who wants to be sure.
type listeners struct{ probable, confirmed *fleet.Consumer }

// form starts n agents that know each other's domains, and subscribes the two.
func form(t *testing.T, n int, edit ...func(m *fleet.Machine, s *fleet.Settings)) (fleet.Agents, listeners) {
	t.Helper()
	all := w.Form(t, n, edit...)
	l := listeners{w.Consume(t, "probable"), w.Consume(t, "confirmed")}
	for _, c := range []*fleet.Consumer{l.probable, l.confirmed} {
		c.Filter = map[string]any{"min_confidence": c.Name}
		id, _ := c.Subscribe(all[0])
		all.Active(id)
	}
	for _, a := range all {
		fleet.Within(t, fleet.Patience, a.Name+" to know all domains and the watch", func() error { return knows(a, all) })
	}
	l.forget()
	return all, l
}

// formed is form, of agents that speak for others: one that has begun listens for a while first.
func formed(t *testing.T, n int, edit ...func(m *fleet.Machine, s *fleet.Settings)) (fleet.Agents, listeners) {
	t.Helper()
	all, l := form(t, n, edit...)
	fleet.Within(t, fleet.Patience, "all agents to speak for others", func() error {
		for _, a := range all {
			s, err := a.Status()
			if err != nil {
				return err
			}
			if s.Cluster.Watch.Listening {
				return fmt.Errorf("%s still listens", a.Name)
			}
		}
		return nil
	})
	return all, l
}

// knows is an error until the agent knows where each host is watched and what runs there.
func knows(a *fleet.Agent, all fleet.Agents) error {
	hosts, err := a.ClusterHosts()
	if err != nil {
		return err
	}
	for _, b := range all {
		i := slices.IndexFunc(hosts, func(h fleet.HostLine) bool { return h.Name == b.Name })
		if i < 0 || hosts[i].State != "member" || hosts[i].Domains != len(domainsOf(b.Machine)) {
			return fmt.Errorf("it knows %+v", hosts)
		}
	}
	return nil
}

func (l listeners) both() []*fleet.Consumer { return []*fleet.Consumer{l.probable, l.confirmed} }

func (l listeners) forget() {
	for _, c := range l.both() {
		c.Forget()
	}
}

// repeated reports how often something was told again under its id. That does no harm, but is to be rare.
func (l listeners) repeated(t *testing.T) (times int) {
	t.Helper()
	for _, c := range l.both() {
		first := map[string]lab.Notification{}
		for _, n := range c.All() {
			was, again := first[n.ID]
			if !again {
				first[n.ID] = n
				continue
			}
			times++
			t.Logf("%s was told twice, by %s and %v later by %s: %s", c.Name, was.Data.Reporter, n.Arrived.Sub(was.Arrived), n.Data.Reporter, n)
		}
	}
	return times
}

// quiet fails if anything that matches comes within d, or has come.
func (l listeners) quiet(t *testing.T, d time.Duration, what func(lab.Notification) bool) {
	t.Helper()
	if n, err := l.probable.Wait(d, what); err == nil {
		t.Errorf("%s was told %s", l.probable.Name, n)
	}
	for _, n := range l.confirmed.All() {
		if what(n) {
			t.Errorf("%s was told %s", l.confirmed.Name, n)
		}
	}
}

func anything(lab.Notification) bool { return true }

// accuses matches what says of a host that it is lost or hung, or of a zone.
func accuses(n lab.Notification) bool {
	return n.Data.Alarm.State != "cleared" && slices.Contains([]string{"host-lost", "host-hung", "zone-lost"}, n.Data.Alarm.Condition)
}

// calls are the notifications about one condition of one host or zone, by alarm and revision, each repetition under its id left out.
func calls(c *fleet.Consumer, condition, home string) (first []lab.Notification) {
	seen := map[string]bool{}
	for _, n := range c.All() {
		if n.Data.Alarm.Condition != condition || n.Data.Host != home {
			continue
		}
		if seen[n.ID] {
			continue
		}
		seen[n.ID] = true
		first = append(first, n)
	}
	return first
}

// tells fails unless these are the calls about one condition of one host, as "raised confirmed", all of one alarm.
func tells(t *testing.T, c *fleet.Consumer, condition, home string, want ...string) []lab.Notification {
	t.Helper()
	var got, ids []string
	all := calls(c, condition, home)
	for _, n := range all {
		got = append(got, strings.TrimPrefix(n.Type, "paramedic.fault.")+" "+n.Data.Alarm.Confidence)
		ids = append(ids, n.Data.Alarm.ID)
	}
	slices.Sort(ids)
	if !slices.Equal(got, want) || len(slices.Compact(ids)) > 1 {
		t.Errorf("%s was told of %s of %s: %v, want %v:\n%v", c.Name, condition, home, got, want, all)
	}
	c.Identities(t)
	return all
}

// cut takes the host's link: nobody hears it any more, nor does its kernel answer.
func cut(t *testing.T, a *fleet.Agent) time.Time {
	t.Helper()
	at := time.Now()
	fleet.Must(t, a.Port.Pull())
	return at
}

// cutAll cuts hosts off, from each other too, all at once.
func cutAll(t *testing.T, lost, rest fleet.Agents) {
	t.Helper()
	groups := [][]*lab.Host{append(rest.Hosts(), w.Consumers)}
	for _, h := range lost.Hosts() {
		groups = append(groups, []*lab.Host{h})
	}
	fleet.Must(t, w.LAN.Split(groups...))
}

func mend(t *testing.T, a *fleet.Agent) {
	t.Helper()
	fleet.Must(t, a.Port.Plug())
}

// stands is an error until the agent knows such an alarm.
func stands(a *fleet.Agent, condition, home string) (fleet.Alarm, error) {
	all, err := a.Standing()
	if err != nil {
		return fleet.Alarm{}, err
	}
	for _, x := range all {
		if x.Condition == condition && x.Host == home {
			return x, nil
		}
	}
	return fleet.Alarm{}, fmt.Errorf("%s knows %+v", a.Name, all)
}

// wellAgain waits until all are members, and no alarm stands.
func wellAgain(t *testing.T, all fleet.Agents) {
	t.Helper()
	all.Level(fleet.Patience)
	for _, a := range all {
		fleet.Within(t, fleet.Patience, a.Name+" to know of no alarm", func() error {
			standing, err := a.Standing()
			if err == nil && len(standing) > 0 {
				err = fmt.Errorf("it knows %+v", standing)
			}
			return err
		})
	}
}

// voters are the names of those whose votes are the evidence.
func voters(n lab.Notification) (names []string) {
	for key := range n.Data.Evidence {
		if name, ok := strings.CutPrefix(key, "vote."); ok {
			names = append(names, name)
		}
	}
	return names
}

// ownWord reports whether a host says something itself, under its own term, which is even; a peer may carry it.
func ownWord(n lab.Notification, home *fleet.Machine) bool {
	return n.Source == "/paramedic/lab/"+home.Name && revision(n).Term%2 == 0
}

func revision(n lab.Notification) (r correlate.Revision) {
	_, _ = fmt.Sscanf(n.Data.Alarm.Revision, "%d.%d", &r.Term, &r.Counter)
	return r
}

// affects fails unless the notification names exactly the host's domains, in that state.
func affects(t *testing.T, n lab.Notification, of *fleet.Machine, state string) {
	t.Helper()
	for _, d := range n.Data.Affected {
		if d.State != state {
			t.Errorf("%s: %s is %s", n, d.Name, d.State)
		}
	}
	if !slices.Equal(names(n), domainsOf(of)) {
		t.Errorf("%s names %v, want %v", n, names(n), domainsOf(of))
	}
}

func containsAll(s string, words ...string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(s, word) })
}
