package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/gossip/lookout"
	"github.com/paramedic-ha/paramedic/gossip/watch"
	"github.com/paramedic-ha/paramedic/notify"
)

const (
	movedDomain = correlate.ID("domain/aaaaaaaa-4f5a-4a77-9d9c-0a5d3c9a1b02")
	movedVNIC   = correlate.ID("vnic/aaaaaaaa-4f5a-4a77-9d9c-0a5d3c9a1b02/52:54:00:00:00:02")
)

// threeHosts are cmp-1, whom the test plays; cmp-2, a member with a failed uplink and a domain behind it; and cmp-3, which
// has not been heard in this run.
func threeHosts(t *testing.T) *neighbours {
	t.Helper()
	key, err := gossip.ParseKey(gossip.GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	n := newNeighbours(t, key)
	at := time.Date(2026, 11, 22, 10, 0, 1, 0, time.UTC)
	ports := []correlate.Port{{MAC: "52:54:00:00:00:02", PortID: "port-2"}, {MAC: "52:54:00:00:00:03"}}
	n.hosts = []ledger.HostView{
		{Name: "cmp-1", Self: true, Member: true, Addr: "10.0.0.1:7946", First: at.Add(-time.Hour), Last: at, AsOf: at},
		{
			Name: "cmp-2", Member: true, Addr: "10.0.0.2:7946", Term: 8, First: at.Add(-time.Hour), Last: at, AsOf: at, Domains: 1,
			Host:   ledger.Host{Zone: "rack-b", Labels: map[string]string{"az": "nova-2"}, Version: "v1.2.3", Facts: map[string]string{"kernel": "6.1"}, Started: at},
			Alarms: map[correlate.Severity]int{correlate.SeverityCritical: 1, correlate.SeverityWarning: 1},
		},
		{Name: "cmp-3", Addr: "10.0.0.3:7946", First: at.Add(-time.Hour), Last: at.Add(-time.Minute)},
	}
	n.domains = []ledger.DomainView{{
		Home: "cmp-2", UUID: movedDomain.Name(), State: correlate.StateDegraded,
		Domain: ledger.Domain{Name: "instance-2", Project: project, Since: at, Ports: ports},
	}}
	alarm := func(id string, resource correlate.ID, c correlate.Condition, severity correlate.Severity, under string, hit ...correlate.Affected) {
		n.alarms = append(n.alarms, &correlate.Alarm{
			ID: id, Revision: correlate.Revision{Term: 8, Counter: 3}, Key: correlate.Key{Home: "cmp-2", Resource: resource, Condition: c},
			Last: correlate.Raised, Severity: severity, Confidence: correlate.ConfidenceConfirmed, EventType: correlate.TypeCommunications,
			ProbableCause: "loss-of-signal", AbstractCause: "network", RootCause: under == "", Under: under,
			Times: correlate.Times{Occurred: at, Observed: at, Raised: at, Changed: at}, Affected: hit,
		})
	}
	alarm("root", "nic/eth0", correlate.CondCarrier, correlate.SeverityCritical, "", correlate.Affected{
		Resource: movedDomain, Name: "instance-2", Project: project, State: correlate.StateDegraded, Ports: ports[:1],
	})
	alarm("member", "nic/eth0.7", correlate.CondCarrier, correlate.SeverityWarning, "root")
	n.status = ClusterStatus{
		Address: "10.0.0.1:7946", Term: 2, Keys: n.peer.KeyStatus(), SecretsKeys: []string{"0123456789ab"},
		Peer: gossip.Stats{
			Members: 2, Hosts: 3, Encrypted: true, Dropped: map[string]uint64{"flood": 3},
			Troubles: []gossip.Trouble{{Kind: gossip.TroubleKey, Peer: "10.0.0.9", Text: "one of us can't open", Count: 7, First: at, Last: at}},
		},
		Replica: gossip.Status{
			Spaces: 3, Hosts: 2, Records: 20, Bytes: 4000, Rejected: []gossip.RejectionCount{{Host: "cmp-7", Reason: gossip.Ahead, Count: 2, Last: at}},
			Clocks: []gossip.ClockOffset{{Host: "cmp-7", Offset: -time.Hour, Last: at.Add(-time.Hour)}},
		},
		Exchange: gossip.ReplicatorStats{Digests: 10, InSync: 9, LastInSync: at},
		Watch: &WatchStatus{
			Status: lookout.Status{
				Status: watch.Status{
					Observers: []string{"cmp-2"}, NoEcho: []string{"cmp-2"},
					Observed: []watch.Observed{
						{Host: "cmp-2", Silence: 34 * time.Millisecond},
						{Host: "cmp-3", Silence: watch.AgeNever, Level: watch.LevelConfirmed, Left: watch.LeftStopped},
					},
				},
				Echo: lookout.EchoPing, EchoReason: "unprivileged ICMP sockets",
				Counters: lookout.Counters{Sent: 100, Received: 99, Replayed: 2, Late: 1, Latest: 40 * time.Millisecond},
			},
			Address: "10.0.0.1:7947", Witness: "10.0.0.254", Probable: 350 * time.Millisecond, Confirmed: 700 * time.Millisecond,
			SpeaksFor: []string{"cmp-3"}, Counts: WatchCounts{Verdicts: [watch.LevelConfirmed + 1]uint64{watch.LevelConfirmed: 1}, FalseAlarms: 3},
		},
	}
	return n
}

// neighbours are the other hosts as the server sees them: views as a ledger gives them, and a real peer for the keys.
type neighbours struct {
	mu        sync.Mutex
	hosts     []ledger.HostView
	alarms    []*correlate.Alarm
	dismissed []*correlate.Alarm
	domains   []ledger.DomainView
	looked    []string // hosts whose domains were asked for
	pairs     []notify.Pair
	status    ClusterStatus
	peer      *gossip.Peer
}

func newNeighbours(t *testing.T, keys ...gossip.CipherKey) *neighbours {
	t.Helper()
	peer, err := gossip.NewPeer(gossip.PeerConfig{
		Node: "cmp-1", Label: "prod", Bind: "127.0.0.1", Keys: gossip.Keyring{Keys: keys}, Insecure: len(keys) == 0,
		Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &neighbours{peer: peer}
}

func (n *neighbours) Hosts() []ledger.HostView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.hosts)
}

func (n *neighbours) Dismissed() []*correlate.Alarm {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.dismissed)
}

func (n *neighbours) Alarms() []*correlate.Alarm {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.alarms)
}

func (n *neighbours) AsOf() func(string) time.Time {
	hosts := n.Hosts()
	return func(host string) time.Time {
		for _, h := range hosts {
			if h.Name == host {
				return h.AsOf
			}
		}
		return time.Time{}
	}
}

func (n *neighbours) Told(a *correlate.Alarm) []notify.Pair {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(n.pairs), func(p notify.Pair) bool { return p.AlarmID != a.ID })
}

func (n *neighbours) Domains(home string) []ledger.DomainView {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.looked = append(n.looked, home)
	return slices.DeleteFunc(slices.Clone(n.domains), func(d ledger.DomainView) bool { return d.Home != home })
}

func (n *neighbours) DomainHome(uuid string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range n.domains {
		if d.UUID == uuid {
			return d.Home
		}
	}
	return ""
}

func (n *neighbours) Forget(_ context.Context, host string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.ContainsFunc(n.hosts, func(v ledger.HostView) bool { return v.Name == host && v.Member }) {
		return fmt.Errorf("forget %s: %w; stop its agent first", host, gossip.ErrMember)
	}
	before := len(n.hosts)
	n.hosts = slices.DeleteFunc(n.hosts, func(v ledger.HostView) bool { return v.Name == host })
	if len(n.hosts) == before {
		return fmt.Errorf("forget %s: %w", host, gossip.ErrUnknownHost)
	}
	return nil
}

func (n *neighbours) Status() ClusterStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

func (n *neighbours) Keys() Keys { return n.peer }

func TestOneAgentAnswersForAllHosts(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	h.carrier("nic/mgmt0", correlate.StatusFailed)
	before := time.Now().Add(-time.Minute)
	at := h.cluster.hosts[1].AsOf

	hosts := get[HostList](c, "GET", "/v1/hosts", nil, 200).Hosts
	if self := hosts[0]; !self.Self || self.State != "member" || self.Domains != 1 || self.Alarms["warning"] != 1 ||
		self.Address != "10.0.0.1:7946" || self.AsOf == nil || self.AsOf.Before(before) {
		t.Errorf("cmp-1: %+v", self)
	}
	if other := hosts[1]; other.Self || other.State != "member" || other.Zone != "rack-b" || other.Version != "v1.2.3" ||
		other.Alarms["critical"] != 1 || other.AsOf == nil || !other.AsOf.Equal(at) {
		t.Errorf("cmp-2: %+v", other)
	}

	for query, want := range map[string]string{"zone=rack-b": "cmp-2", "state=away": "cmp-3", "state=member&zone=rack-x": "", "state=lost": ""} {
		var got []string
		for _, h := range get[HostList](c, "GET", "/v1/hosts?"+query, nil, 200).Hosts {
			got = append(got, h.Name)
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: got %q, want %q", query, s, want)
		}
	}
	for query, want := range map[string]string{
		"":                      "cmp-1:nic/mgmt0 cmp-2:nic/eth0.7 cmp-2:nic/eth0",
		"host=cmp-2":            "cmp-2:nic/eth0.7 cmp-2:nic/eth0",
		"host=cmp-1":            "cmp-1:nic/mgmt0",
		"domain=instance-2":     "cmp-2:nic/eth0",
		"state=all&host=cmp-2":  "cmp-2:nic/eth0.7 cmp-2:nic/eth0",
		"state=cleared":         "",
		"min_severity=critical": "cmp-2:nic/eth0",
		"limit=1":               "cmp-1:nic/mgmt0",
		"resource=nic/eth0&since=2026-11-22T10:00:00Z": "cmp-2:nic/eth0",
	} {
		var got []string
		for _, a := range get[AlarmPage](c, "GET", "/v1/alarms?"+query, nil, 200).Alarms {
			got = append(got, a.Host+":"+a.Resource)
			if a.AsOf == nil || a.Host == "cmp-2" && !a.AsOf.Equal(at) || a.Host == "cmp-1" && a.AsOf.Before(before) {
				t.Errorf("%s: %s is as of %v", query, a.Resource, a.AsOf)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("alarms of %q: %v, want %s", query, got, want)
		}
	}
	if root := get[Alarm](c, "GET", "/v1/alarms/root", nil, 200); !slices.Equal(root.Correlated, []string{"member"}) {
		t.Errorf("the root explains %v", root.Correlated)
	}

	status := get[Status](c, "GET", "/v1/status", nil, 200)
	if p := status.Cluster; p == nil || p.Members != 2 || p.Hosts != 3 || p.InSync == nil || len(p.Keys.Keys) != 1 || len(p.Troubles) != 3 {
		t.Fatalf("cluster: %+v", p)
	}
	for i, want := range []string{"one of us", "ahead: let NTP", "1h0m0s behind ours"} {
		if text := status.Cluster.Troubles[i].Text; !strings.Contains(text, want) {
			t.Errorf("trouble %d: %s, want %s", i, text, want)
		}
	}
}

func TestAHostThatIsLostIsShownWithWhoSpeaksForIt(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	at := h.cluster.hosts[1].AsOf
	spoken := func(id, home string, resource correlate.ID, c correlate.Condition, under string) *correlate.Alarm {
		return &correlate.Alarm{
			ID: id, Revision: correlate.Revision{Term: 7, Counter: 1}, Key: correlate.Key{Home: home, Resource: resource, Condition: c},
			Last: correlate.Raised, Severity: correlate.SeverityCritical, Confidence: correlate.ConfidenceProbable, EventType: correlate.TypeEquipment,
			ProbableCause: "x", AbstractCause: "compute", RootCause: under == "", Under: under, Evidence: map[string]string{"speaker": "cmp-2"},
			Times: correlate.Times{Occurred: at, Observed: at, Raised: at.Add(-time.Hour)},
		}
	}
	lost := spoken("lost", "cmp-3", "host/cmp-3", correlate.CondHostLost, "zone")
	h.cluster.hosts[2].Standing = []*correlate.Alarm{lost}
	h.cluster.hosts[2].Watch = &ledger.HostWatch{Observers: []string{"cmp-1", "cmp-2"}, Silence: 900 * time.Millisecond}
	h.cluster.hosts[0].Watch = &ledger.HostWatch{Observers: []string{"cmp-2"}, Silence: watch.AgeNever}
	h.cluster.alarms = []*correlate.Alarm{lost, spoken("zone", "zone/rack-b", "zone/rack-b", correlate.CondZoneLost, "")}
	c := serve(t, h)

	hosts := get[HostList](c, "GET", "/v1/hosts", nil, 200).Hosts
	if l := hosts[2]; l.State != "lost" || l.Confidence != "probable" || l.Speaker != "cmp-2" || l.Watch == nil || *l.Watch.SilenceMS != 900 {
		t.Errorf("cmp-3: %+v", l)
	}
	if m := hosts[1]; m.State != "member" || m.Confidence != "" || m.Speaker != "" || m.Watch != nil {
		t.Errorf("cmp-2: %+v", m)
	}
	if self := hosts[0]; self.Watch == nil || self.Watch.SilenceMS != nil || !slices.Equal(self.Watch.Observers, []string{"cmp-2"}) {
		t.Errorf("cmp-1: %+v", self.Watch)
	}

	// A speaker's word is as new as what is known of the speaker. A zone is nobody's host.
	for id, host := range map[string]string{"lost": "cmp-3", "zone": ""} {
		a := get[Alarm](c, "GET", "/v1/alarms/"+id, nil, 200)
		if a.Host != host || a.AsOf == nil || !a.AsOf.Equal(at) {
			t.Errorf("%s: of host %q as of %v, want %q %v", id, a.Host, a.AsOf, host, at)
		}
	}
	if a := get[Alarm](c, "GET", "/v1/alarms/zone", nil, 200); !slices.Equal(a.Correlated, []string{"lost"}) {
		t.Errorf("the zone explains %v", a.Correlated)
	}

	p := get[Status](c, "GET", "/v1/status", nil, 200).Cluster.Watch
	if p == nil || p.Echo != "ping" || p.Deadlines != (WatchDeadlines{350, 700, 1400, 2800}) || p.Observed[0].Verdict != "none" || *p.Observed[0].SilenceMS != 34 {
		t.Fatalf("watch: %+v", p)
	}
	if o := p.Observed[1]; o.Verdict != "confirmed" || o.SilenceMS != nil || o.Left != "agent-stop" {
		t.Errorf("observed: %+v", o)
	}
	if n := p.Counters; n.Refused["replayed"] != 2 || n.Verdicts["confirmed"] != 1 || len(n.Verdicts) != 4 || n.FalseAlarms != 3 || n.LatestMS != 40 {
		t.Errorf("counters: %+v", n)
	}
}

func TestAnAlarmThatWasClearedTwiceIsListedOnce(t *testing.T) {
	h := newHost(t)
	c := serve(t, h)
	h.carrier("nic/eth0", correlate.StatusFailed)
	h.carrier("nic/eth0", correlate.StatusOK)
	again := *h.changes[1].Change.Alarm
	again.Revision.Term += 2
	h.past.Note(&again, string(again.Last))
	list := get[AlarmPage](c, "GET", "/v1/alarms?state=all", nil, 200).Alarms
	if len(list) != 1 || list[0].Revision != again.Revision.String() {
		t.Errorf("%+v, want the last of the two", list)
	}
}

func TestAHostThatIsCutOffSaysSoOfItself(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	h.step(correlate.Delta{Source: correlate.SpokenSource, Events: []correlate.Event{{
		Resource: "host/cmp-1", Condition: correlate.CondIsolated, Status: correlate.StatusFailed,
	}}})
	if self := get[Host](c, "GET", "/v1/hosts/cmp-1", nil, 200); self.State != "isolated" {
		t.Errorf("it is %s", self.State)
	}
}

func TestResourcesOfOtherHostsAreShownAsFarAsKnown(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	list := func(query string) string {
		t.Helper()
		var got []string
		for _, r := range get[ResourcePage](c, "GET", "/v1/resources"+query, nil, 200).Resources {
			got = append(got, r.Host+":"+r.ID)
		}
		return strings.Join(got, "\n")
	}
	theirs := strings.Join([]string{
		"cmp-2:" + string(movedDomain), "cmp-2:host/cmp-2", "cmp-2:nic/eth0", "cmp-2:nic/eth0.7", "cmp-2:" + string(movedVNIC),
		"cmp-2:vnic/" + movedDomain.Name() + "/52:54:00:00:00:03",
	}, "\n")
	if got := list("?host=cmp-2"); got != theirs {
		t.Errorf("of cmp-2:\n%s\nwant\n%s", got, theirs)
	}
	if got := list("?host=cmp-3"); got != "cmp-3:host/cmp-3" {
		t.Errorf("of cmp-3: %s", got)
	}
	if got := list(""); strings.Count(got, ":nic/eth0\n") != 2 || strings.Count(got, "\n") != 6+6 {
		t.Errorf("of all:\n%s", got)
	}
	vm := get[Resource](c, "GET", "/v1/resources/"+string(movedDomain), nil, 200)
	if vm.Host != "cmp-2" || vm.State != "degraded" || vm.Name != "instance-2" || vm.AsOf == nil || len(vm.Needs) != 2 {
		t.Errorf("domain: %+v", vm)
	}
	if port := get[Resource](c, "GET", "/v1/resources/"+string(movedVNIC), nil, 200); port.State != "failed" || port.Port.PortID != "port-2" {
		t.Errorf("vnic: %+v", port)
	}
	link := get[Resource](c, "GET", "/v1/resources/nic/eth0?host=cmp-2", nil, 200)
	if link.State != "failed" || !slices.Equal(link.Conditions, []string{"carrier"}) {
		t.Errorf("link: %+v", link)
	}
	if own := get[Resource](c, "GET", "/v1/resources/nic/eth0", nil, 200); own.Host != "cmp-1" || own.State != "ok" {
		t.Errorf("own link: %+v", own)
	}
	host := get[Resource](c, "GET", "/v1/resources/host/cmp-2", nil, 200)
	if host.Facts["kernel"] != "6.1" || host.Facts["label.az"] != "nova-2" || !slices.Equal(host.Dependents, []string{string(movedDomain)}) {
		t.Errorf("host: %+v", host)
	}
	if around := get[ResourceList](c, "GET", "/v1/topology?root="+string(movedVNIC), nil, 200).Resources; len(around) != 2 || around[0].Host != "cmp-2" {
		t.Errorf("around the vnic: %+v", around)
	}
	if own := get[ResourceList](c, "GET", "/v1/topology", nil, 200).Resources; len(own) != 6 || own[0].Host != "cmp-1" {
		t.Errorf("topology: %+v", own)
	}
	c.problem("GET", "/v1/topology?host=cmp-9", nil, 404)

	// Two others have a link of this name, and this host has none.
	h.set(func() {
		other := *h.cluster.alarms[1]
		other.ID, other.Key.Home = "elsewhere", "cmp-3"
		h.cluster.alarms = append(h.cluster.alarms, &other)
	})
	if p := c.problem("GET", "/v1/resources/nic/eth0.7", nil, 400); !strings.Contains(p.Detail, "cmp-2, cmp-3: say which with host=") {
		t.Errorf("ambiguous: %+v", p)
	}
}

func TestADomainThatTwoHostsKnowIsShownAtItsHome(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	h.cluster.domains[0].UUID, h.cluster.domains[0].Ports = domain.Name(), nil
	h.cluster.alarms = nil
	c := serve(t, h)
	for _, r := range get[ResourcePage](c, "GET", "/v1/resources", nil, 200).Resources {
		if (r.Kind == "domain" || r.Kind == "vnic") && r.Host != "cmp-2" {
			t.Errorf("%s is shown at %s", r.ID, r.Host)
		}
	}
	if r := get[Resource](c, "GET", "/v1/resources/"+string(domain), nil, 200); r.Host != "cmp-2" {
		t.Errorf("it is at %s", r.Host)
	}
	if r := get[Resource](c, "GET", "/v1/resources/"+string(domain)+"?host=cmp-1", nil, 200); r.Host != "cmp-1" || r.Source != "virt" {
		t.Errorf("what this host knows of it: %+v", r)
	}
}

func TestAHostIsForgottenOnlyWhenItIsGone(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	if p := c.problem("DELETE", "/v1/hosts/cmp-2", nil, 409); !strings.Contains(p.Detail, "stop its agent first") {
		t.Errorf("a member: %+v", p)
	}
	if res, _ := c.send("DELETE", "/v1/hosts/cmp-3", nil); res.StatusCode != http.StatusNoContent {
		t.Errorf("forget: %d", res.StatusCode)
	}
	c.problem("DELETE", "/v1/hosts/cmp-3", nil, 404)
}

func TestKeysAreChangedStepByStep(t *testing.T) {
	h := newHost(t)
	h.cluster = threeHosts(t)
	c := serve(t, h)
	first := get[KeyList](c, "GET", "/v1/keys", nil, 200).Keys[0].ID
	for _, bad := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/v1/keys", `{"key":"HUSH!"}`, 400, "not base64"},
		{"POST", "/v1/keys", `{"keys":"HUSH"}`, 400, "the names are key"},
		{"POST", "/v1/keys/000000000000/use", "", 404, "add it first"},
		{"DELETE", "/v1/keys/000000000000", "", 404, "/v1/keys lists"},
		{"DELETE", "/v1/keys/" + first, "", 409, "is the one in use"},
		{"DELETE", "/v1/keys/" + first + "?force=yes", "", 400, "want one of false, true"},
	} {
		var body any
		if bad.body != "" {
			body = bad.body
		}
		if p := c.problem(bad.method, bad.path, body, bad.status); !strings.Contains(p.Detail, bad.want) || strings.Contains(p.Detail, "HUSH") {
			t.Errorf("%s %s: %s, want %s", bad.method, bad.path, p.Detail, bad.want)
		}
	}
	for i := range maxKeys - 1 {
		if keys := get[KeyList](c, "POST", "/v1/keys", KeyRequest{Key: gossip.GenerateKey()}, 200).Keys; len(keys) != i+2 || keys[0].ID != first {
			t.Fatalf("keys: %+v", keys)
		}
	}
	if p := c.problem("POST", "/v1/keys", KeyRequest{Key: gossip.GenerateKey()}, 409); !strings.Contains(p.Detail, "remove old ones first") {
		t.Errorf("one too many: %+v", p)
	}

	h.set(func() { h.cluster = newNeighbours(t) })
	if p := c.problem("GET", "/v1/keys", nil, 409); !strings.Contains(p.Detail, "cluster.insecure") {
		t.Errorf("no keys: %+v", p)
	}
}
