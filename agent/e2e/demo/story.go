package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What the demo reads of the API's answers.
type (
	hostList struct {
		Hosts []struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"hosts"`
	}
	subscriptionList struct {
		Subscriptions []struct {
			Name string `json:"name"`
		} `json:"subscriptions"`
	}
	alarmList struct {
		Alarms []alarm `json:"alarms"`
	}
	alarm struct {
		ID        string `json:"id"`
		Host      string `json:"host"`
		Condition string `json:"condition"`
		Ack       *struct {
			Comment string `json:"comment"`
		} `json:"ack"`
	}
)

// story is the whole play. Faults are at cmp-2 unless it says otherwise.
func (s *stage) story(ctx context.Context) error {
	cmp1, cmp2, cmp3 := s.nodes[0], s.nodes[1], s.nodes[2]
	uplink, libvirt := cmp2.uplinks[0], cmp2.libvirt
	all := func(kind, abstract string) map[string]string {
		return map[string]string{"red": abstract, "blue": abstract, "ops": kind}
	}
	if err := s.meet(); err != nil {
		return err
	}
	if err := s.subscribe(cmp1); err != nil {
		return err
	}
	err := s.scenes(ctx, "What happens at cmp-2", []scene{
		{"the cable of uplink0 is pulled", uplink.Pull, all("raised carrier", "raised network"), "cmp-2"},
		{"the cable is put back", uplink.Plug, all("cleared carrier", "cleared network"), "cmp-2"},
		{"ip link set uplink0 down, on the host", uplink.Disable, all("raised disabled", "raised network"), "cmp-2"},
		{"ip link set uplink0 up", uplink.Enable, all("cleared disabled", "cleared network"), "cmp-2"},
		{"kill -9 of the qemu process of red-3", func() error { return libvirt.KillQEMU("red-3") }, tell("raised crash", "red", "ops"), "cmp-2"},
		{"red-3 is started again", func() error { return libvirt.StartAgain("red-3") }, tell("cleared crash", "red", "ops"), "cmp-2"},
		{"the owner of red-1 destroys it: no fault, nobody is called", func() error { return libvirt.Destroy("red-1") }, nil, ""},
	})
	if err != nil {
		return err
	}
	if err := s.query(ctx, cmp2, cmp3); err != nil {
		return err
	}
	if err := s.standIn(ctx, cmp2); err != nil {
		return err
	}
	err = s.scenes(ctx, "The agent that took the subscriptions dies", []scene{
		{"kill -9 of the agent of cmp-1: its kernel answers for the host, which nobody takes for lost", cmp1.agent.Kill, tell("raised agent-silent", "ops"), "!cmp-1"},
		{"the guest of blue-2, at cmp-3, panics: the subscriptions are in force", func() error { return cmp3.libvirt.Panic("blue-2") }, tell("raised guest-panic", "blue", "ops"), "cmp-3"},
		{"the agent of cmp-1 is started again", cmp1.agent.Start, tell("cleared agent-silent", "ops"), "cmp-1"},
	})
	if err != nil {
		return err
	}
	return s.hostLoss(ctx, cmp2, cmp3)
}

func tell(what string, names ...string) map[string]string {
	hears := map[string]string{}
	for _, n := range names {
		hears[n] = what
	}
	return hears
}

// meet starts the agents and waits until each knows the three.
func (s *stage) meet() error {
	began := time.Now()
	if err := s.start(); err != nil {
		return err
	}
	if err := s.together(); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "The three agents are started, and have found each other after %d ms.\n\n", time.Since(began).Milliseconds())
	return nil
}

// together waits until each agent knows all hosts as members.
func (s *stage) together() error {
	for _, n := range s.nodes {
		_, err := until(n.agent, "/v1/hosts", "the others", func(l hostList) bool {
			here := 0
			for _, h := range l.Hosts {
				if h.State == "member" {
					here++
				}
			}
			return here == len(s.nodes)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// subscribe makes the three subscriptions at one host, and waits until all have them.
func (s *stage) subscribe(at *node) error {
	fmt.Fprintf(s.out, "■ three consumers subscribe, at %s\n", at.host.Name)
	for _, c := range s.consumers {
		if err := s.subscribeOne(at, c); err != nil {
			return err
		}
	}
	took, err := s.inForce()
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "    each URL has proved by a signed challenge that it wants this; %.1f ms later they are in force at all hosts\n\n", milliseconds(took))
	return nil
}

func (s *stage) subscribeOne(at *node, c *consumer) error {
	args := []string{"subscribe", "http://" + c.addr + "/", "--name", c.name, "--secret-file", c.secretFile()}
	if c.project != "" {
		args = append(args, "--role", "consumer", "--filter", "projects="+c.project)
	}
	if c.confidence != "" {
		args = append(args, "--filter", "min_confidence="+c.confidence)
	}
	out, err := at.agent.Command(args...)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "    $ paramedic %s\n%s", strings.Join(args, " "), indent(out))
	return nil
}

// inForce waits until all hosts have the subscriptions of all consumers.
func (s *stage) inForce() (time.Duration, error) {
	began := time.Now()
	for _, n := range s.nodes {
		_, err := until(n.agent, "/v1/subscriptions", "the subscriptions", func(l subscriptionList) bool {
			return len(l.Subscriptions) == len(s.consumers)
		})
		if err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// query has a fault at one host, asks another about it, and acknowledges it there.
func (s *stage) query(ctx context.Context, at, from *node) error {
	there, here := at.host.Name, from.host.Name
	uplink := at.uplinks[0]
	hit := map[string]string{"red": "raised network", "blue": "raised network", "ops": "raised carrier"}
	err := s.scenes(ctx, "Any agent answers for all", []scene{
		{"the cable of uplink0 is pulled again: of red only red-2 is hit now", uplink.Pull, hit, there},
	})
	if err != nil {
		return err
	}
	var id string
	mine := func(l alarmList) bool {
		i := slices.IndexFunc(l.Alarms, func(a alarm) bool { return a.Host == there && a.Condition == "carrier" })
		if i >= 0 {
			id = l.Alarms[i].ID
		}
		return i >= 0
	}
	if _, err := until(from.agent, "/v1/alarms?state=standing", "the alarm of "+there, mine); err != nil {
		return err
	}
	for _, args := range [][]string{{"hosts"}, {"alarms"}, {"ack", id, "--comment", "the cable is on its way"}} {
		out, err := from.agent.Command(args...)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "■ at %s: paramedic %s\n%s", here, strings.Join(args, " "), indent(out))
	}
	took, err := until(at.agent, "/v1/alarms?state=standing", "the acknowledgement", func(l alarmList) bool {
		for _, a := range l.Alarms {
			if a.ID == id && a.Ack != nil {
				return true
			}
		}
		return false
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "    %s, whose alarm it is, knows of it %.1f ms later\n", there, milliseconds(took))
	return s.scenes(ctx, "", []scene{
		{"the cable is put back", uplink.Plug, map[string]string{"red": "cleared network", "blue": "cleared network", "ops": "cleared carrier"}, there},
	})
}

// standIn takes a host's way to the consumers, but not that to its peers; then gives it back.
func (s *stage) standIn(ctx context.Context, home *node) error {
	name := home.host.Name
	fmt.Fprintf(s.out, "%s can't reach the consumers any more; its peers can.\n\n", name)
	if err := s.lan.Block(home.host, s.outside, true); err != nil {
		return err
	}
	crash := []scene{
		{"kill -9 of the qemu process of red-3", func() error { return home.libvirt.KillQEMU("red-3") }, tell("raised crash", "red", "ops"), "!" + name},
		{"red-3 is started again", func() error { return home.libvirt.StartAgain("red-3") }, tell("cleared crash", "red", "ops"), "!" + name},
	}
	if err := s.scenes(ctx, "A peer tells for it", crash); err != nil {
		return err
	}
	if err := s.lan.Block(home.host, s.outside, false); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s can reach the consumers again, and will see it within seconds. Until then the peer goes on:\n\n", name)
	crash[0].teller, crash[1].teller = "?"+name, "?"+name
	for began := time.Now(); s.teller != name; crash[0], crash[1] = crash[1], crash[0] { // once it has noticed
		if time.Since(began) > patience {
			return fmt.Errorf("%s still has its peers tell", name)
		}
		if err := s.scenes(ctx, "", crash[:1]); err != nil {
			return err
		}
	}
	if crash[0].hears["ops"] == "cleared crash" { // that is next
		return s.scenes(ctx, "", crash[:1])
	}
	return nil
}
