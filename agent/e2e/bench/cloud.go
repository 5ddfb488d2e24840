package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const (
	cloudLink  = "mgmt0"
	cloudLabel = "bench"

	gossipKeyFile = lab.Dir + "/gossip.key"
	secretKeyFile = lab.Dir + "/secrets.key"
)

// cloud is many hosts on one switch, each with a real agent that watches one uplink and no libvirt, and a host for consumers.
type cloud struct {
	lab       *lab.Lab
	lan       *lab.Switch
	consumers *lab.Host
	bin       string
	keys      keyFiles
	members   []*member
}

// member is one host of a cloud.
type member struct {
	*lab.Host
	agent *lab.Agent
	port  *lab.Port  // its place on the switch
	cable *lab.Cable // of its uplink
}

// keyFiles are the contents of the cluster's key files.
type keyFiles struct{ gossip, secrets string }

func newKeys(host *lab.Host, bin string) (k keyFiles, err error) {
	var errs [2]error
	k.gossip, errs[0] = host.Output(bin, "keygen", "--gossip")
	k.secrets, errs[1] = host.Output(bin, "keygen", "--secrets")
	return k, errors.Join(errs[:]...)
}

// write puts the files where clusterPart says they are.
func (k keyFiles) write(h *lab.Host) error {
	return errors.Join(h.WriteFile(gossipKeyFile, k.gossip, 0o600), h.WriteFile(secretKeyFile, k.secrets, 0o600))
}

// clusterPart is the cluster section of a configuration.
func clusterPart(bind string, join ...string) string {
	return fmt.Sprintf("cluster: {bind: '%s', join: ['%s'], label: %s, key_file: %s, secrets_key_file: %s}\n",
		bind, strings.Join(join, "', '"), cloudLabel, gossipKeyFile, secretKeyFile)
}

const cloudConsumer = "10.99.1.1"

func cloudAddr(n int) string { return fmt.Sprintf("10.99.0.%d", n+1) }

// buildCloud starts no agent yet. It returns the cloud also with an error, to be closed, once there is one.
func buildCloud(size int) (c *cloud, err error) {
	l, err := lab.New()
	if err != nil {
		return nil, err
	}
	c = &cloud{lab: l}
	if c.bin, err = l.Build("."); err != nil {
		return c, err
	}
	if c.lan, err = l.Switch("switch"); err != nil {
		return c, err
	}
	if c.consumers, err = l.Host("consumers"); err != nil {
		return c, err
	}
	if _, err = c.lan.Attach(c.consumers, cloudLink, cloudConsumer+"/16"); err != nil {
		return c, err
	}
	if c.keys, err = newKeys(c.consumers, c.bin); err != nil {
		return c, err
	}
	for n := range size {
		if err := c.add(n); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *cloud) add(n int) (err error) {
	m := &member{}
	if m.Host, err = c.lab.Host(fmt.Sprintf("cmp-%02d", n)); err != nil {
		return err
	}
	// Router solicitations and the like, which each host sends to all, are not ours to count.
	if _, err := m.Run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6"); err != nil {
		return err
	}
	if m.port, err = c.lan.Attach(m.Host, cloudLink, cloudAddr(n)+"/16"); err != nil {
		return err
	}
	if m.cable, err = c.lab.Connect(lab.End{Host: m.Host, Link: uplink}, lab.End{Host: c.consumers, Link: fmt.Sprint("far", n)}); err != nil {
		return err
	}
	config := fmt.Sprintf("node: {name: %s}\napi: {socket: %s}\nhw: {nic: {include: [%s]}, virt: {disabled: true}, "+lab.NotTheMachine+"}\nnotify: {dir: %s}\n",
		m.Name, lab.Socket, uplink, lab.StateDir)
	config += clusterPart(cloudAddr(n), cloudAddr(0), cloudAddr(1), cloudAddr(2))
	if err := c.keys.write(m.Host); err != nil {
		return err
	}
	if m.agent, err = m.NewAgent(c.bin, config); err != nil {
		return err
	}
	c.members = append(c.members, m)
	return nil
}

// each does something to several members at once.
func each(members []*member, do func(*member) error) error {
	errs := make([]error, len(members))
	var group sync.WaitGroup
	for i, m := range members {
		group.Go(func() { errs[i] = do(m) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// start starts the agents of some members and waits until the first count know each other.
func (c *cloud) start(members []*member, count int) error {
	if err := each(members, func(m *member) error { return m.agent.StartOnly() }); err != nil {
		return err
	}
	if err := each(members, func(m *member) error { return m.agent.Ready(time.Minute) }); err != nil {
		return err
	}
	for _, m := range c.members[:count] {
		if err := m.until(time.Minute, func(s status) bool { return s.Cluster.Members == count }); err != nil {
			return fmt.Errorf("%d members: %w", count, err)
		}
	}
	return nil
}

// status is what the bench reads of GET /v1/status.
type status struct {
	Cluster struct {
		Members  int `json:"members"`
		Exchange struct {
			InSync uint64 `json:"in_sync"`
		} `json:"exchange"`
		Replica struct {
			Records int `json:"records"`
			Bytes   int `json:"bytes"`
		} `json:"replica"`
	} `json:"cluster"`
}

func statusOf(a *lab.Agent) (s status, err error) {
	body, err := a.Get("/v1/status")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(body, &s)
}

// until asks a member for its status until it is as wanted.
func (m *member) until(limit time.Duration, ok func(status) bool) error {
	deadline := time.Now().Add(limit)
	for {
		s, err := statusOf(m.agent)
		if err == nil && ok(s) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not within %v: %+v, %w", m.Name, limit, s, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// has asks whether a subscription is active at a member: its notifier has it.
func (m *member) has(subscription string) bool {
	_, err := m.agent.Get("/v1/subscriptions/" + subscription)
	return err == nil
}

// sweep asks the members in turn until each has said yes once, and notes when. No member is asked again after that, so the
// resolution is at worst one turn; the figures are upper bounds.
func sweep(members []*member, limit time.Duration, ok func(*member) bool) ([]time.Time, error) {
	at := make([]time.Time, len(members))
	deadline := time.Now().Add(limit)
	for left := len(members); left > 0; {
		for i, m := range members {
			if at[i].IsZero() && ok(m) {
				at[i] = time.Now()
				left--
			}
		}
		if left > 0 && time.Now().After(deadline) {
			return at, fmt.Errorf("%d of %d hosts not within %v", left, len(members), limit)
		}
	}
	return at, nil
}

// subscribe posts a subscription to a member and returns its id.
func (m *member) subscribe(name, url, secret string) (id string, err error) {
	return m.subscribeTo(nil, name, url, secret)
}

// subscribeTo is subscribe with a filter.
func (m *member) subscribeTo(filter map[string]any, name, url, secret string) (id string, err error) {
	body := map[string]any{"name": name, "endpoints": []string{url}, "secret": secret}
	if filter != nil {
		body["filter"] = filter
	}
	out, err := m.agent.Call(http.MethodPost, "/v1/subscriptions", body, http.StatusCreated)
	if err != nil {
		return "", err
	}
	var answer struct {
		Subscription struct {
			ID string `json:"id"`
		} `json:"subscription"`
	}
	return answer.Subscription.ID, json.Unmarshal(out, &answer)
}

func (m *member) unsubscribe(id string) error {
	_, err := m.agent.Call(http.MethodDelete, "/v1/subscriptions/"+id, nil, http.StatusNoContent)
	return err
}

// linkCount is what has passed a link so far: whole frames, with the headers of Ethernet, IP, UDP and TCP.
type linkCount struct{ txBytes, rxBytes, txPackets, rxPackets float64 }

func linkCountOf(h *lab.Host, link string) (c linkCount, err error) {
	for _, f := range []struct {
		name string
		into *float64
	}{{"tx_bytes", &c.txBytes}, {"rx_bytes", &c.rxBytes}, {"tx_packets", &c.txPackets}, {"rx_packets", &c.rxPackets}} {
		text, err := os.ReadFile(h.Path("/sys/class/net/" + link + "/statistics/" + f.name))
		if err != nil {
			return c, err
		}
		if *f.into, err = strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c linkCount) minus(o linkCount) linkCount {
	return linkCount{c.txBytes - o.txBytes, c.rxBytes - o.rxBytes, c.txPackets - o.txPackets, c.rxPackets - o.rxPackets}
}
