package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// View is what one agent says of the whole cluster.
type View struct {
	Members       []string
	alarms        map[string]string // id → revision
	subscriptions map[string]string // id → version, and what stopped it
}

// View asks the agent.
func (a *Agent) View() (View, error) {
	v := View{alarms: map[string]string{}, subscriptions: map[string]string{}}
	hosts, err := a.ClusterHosts()
	if err != nil {
		return v, err
	}
	for _, h := range hosts {
		if h.State == "member" || h.State == "isolated" { // the hosts of half a cluster say that they are cut off, and are each other's members
			v.Members = append(v.Members, h.Name)
		}
	}
	slices.Sort(v.Members)
	standing, err := a.Standing()
	if err != nil {
		return v, err
	}
	for _, s := range standing {
		v.alarms[s.ID] = s.Revision
	}
	subs, err := a.Subscribed()
	if err != nil {
		return v, err
	}
	for _, s := range subs {
		v.subscriptions[s.ID] = fmt.Sprint(s.Version, " ", s.Paused)
	}
	return v, nil
}

// HostLine is a line of GET /v1/hosts.
type HostLine struct {
	Name    string    `json:"name"`
	State   string    `json:"state"` // see ledger.HostState
	Address string    `json:"address"`
	Term    uint64    `json:"term"`
	AsOf    time.Time `json:"as_of"`
	Domains int       `json:"domains"`
}

// ClusterHosts are all that the agent knows of.
func (a *Agent) ClusterHosts() (hosts []HostLine, err error) {
	var list struct {
		Hosts []HostLine `json:"hosts"`
	}
	return list.Hosts, a.Read("/v1/hosts", &list)
}

// Alarm is an alarm as the API shows it.
type Alarm struct {
	ID          string            `json:"id"`
	Revision    string            `json:"revision"`
	State       string            `json:"state"`
	Host        string            `json:"host"`
	Resource    string            `json:"resource"`
	Condition   string            `json:"condition"`
	Severity    string            `json:"severity"`
	Confidence  string            `json:"confidence"`
	Correlated  []string          `json:"correlated"`
	Under       string            `json:"under"`
	ClearReason string            `json:"clear_reason"`
	Evidence    map[string]string `json:"evidence"`
	Affected    []struct {
		Name  string `json:"name"`
		State string `json:"state"`
	} `json:"affected"`
	AsOf time.Time `json:"as_of"`
	Ack  *struct {
		By      string `json:"by"`
		Comment string `json:"comment"`
	} `json:"ack"`
}

// Standing lists the standing alarms of the whole cluster.
func (a *Agent) Standing() (alarms []Alarm, err error) {
	var page struct {
		Alarms []Alarm `json:"alarms"`
		Next   string  `json:"next"`
	}
	err = a.Read("/v1/alarms?state=standing&limit=1000", &page)
	return page.Alarms, err
}

// Carrier waits until the agent knows the alarm about the machine's uplink.
func (a *Agent) Carrier(of *Machine) (found Alarm) {
	a.T.Helper()
	Within(a.T, Patience, a.Name+" to know that "+of.Name+" lost its carrier", func() error {
		all, err := a.Standing()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(x Alarm) bool { return x.Host == of.Name && x.Condition == "carrier" })
		if i < 0 {
			return fmt.Errorf("it knows %+v", all)
		}
		found = all[i]
		return nil
	})
	return found
}

// Subscription is a line of GET /v1/subscriptions.
type Subscription struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version uint64 `json:"version"`
	Origin  string `json:"origin"`
	Paused  string `json:"paused"`
}

// Subscribed lists the subscriptions.
func (a *Agent) Subscribed() (subs []Subscription, err error) {
	var list struct {
		Subscriptions []Subscription `json:"subscriptions"`
	}
	return list.Subscriptions, a.Read("/v1/subscriptions", &list)
}

// Status is what the tests read of GET /v1/status.
type Status struct {
	Term    uint64 `json:"term"`
	Cluster struct {
		Members  int       `json:"members"`
		Troubles []Trouble `json:"troubles"`
		Watch    struct {
			Listening bool `json:"listening"`
		} `json:"watch"`
	} `json:"cluster"`
}

// Trouble is what is wrong with a peer.
type Trouble struct {
	Kind  string `json:"kind"`
	Peer  string `json:"peer"`
	Text  string `json:"text"`
	Count uint64 `json:"count"`
}

// Status asks the agent.
func (a *Agent) Status() (s Status, err error) { return s, a.Read("/v1/status", &s) }

// Complains waits until the agent names a trouble of one of these kinds in its status, with that word in its text.
func (a *Agent) Complains(word string, kinds ...string) (found Trouble) {
	a.T.Helper()
	Within(a.T, Patience, fmt.Sprintf("%s to complain of %v", a.Name, kinds), func() error {
		s, err := a.Status()
		if err != nil {
			return err
		}
		i := slices.IndexFunc(s.Cluster.Troubles, func(x Trouble) bool {
			return slices.Contains(kinds, x.Kind) && strings.Contains(x.Text, word)
		})
		if i < 0 {
			return fmt.Errorf("it names %+v", s.Cluster.Troubles)
		}
		found = s.Cluster.Troubles[i]
		return nil
	})
	return found
}

// Read asks the API.
func (a *Agent) Read(path string, into any) error {
	body, err := a.Get(path)
	if err != nil {
		return fmt.Errorf("%s: %w", a.Name, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: GET %s: %w: %s", a.Name, path, err, body)
	}
	return nil
}

// Owes is an error unless so many deliveries are pending.
func (a *Agent) Owes(want int) error {
	var list struct {
		Deliveries []map[string]any `json:"deliveries"`
	}
	if err := a.Read("/v1/deliveries", &list); err != nil {
		return err
	}
	if len(list.Deliveries) != want {
		return fmt.Errorf("%s owes %v", a.Name, list.Deliveries)
	}
	return nil
}
