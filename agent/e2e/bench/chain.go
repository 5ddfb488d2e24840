package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// chain is what an operator without paramedic would have: Debian's node_exporter on the compute host, Prometheus and
// Alertmanager on another, and a webhook to the consumer. It is set up for speed, not for a day's work.
type chain struct {
	monitor                            *lab.Host
	monitorAddr                        string
	exporter, prometheus, alertmanager *lab.Process
	words                              chan chainWord
	server                             *http.Server
	rounds                             int
}

// chainWord is an alert, as the consumer reads it.
type chainWord struct {
	firing bool // or resolved
	device string
	body   string
	err    error
	at     time.Time // when the whole body was there
}

// Files of the chain on its host.
const (
	prometheusFile   = lab.Dir + "/prometheus.yml"
	rulesFile        = lab.Dir + "/rules.yml"
	alertmanagerFile = lab.Dir + "/alertmanager.yml"
)

const (
	exporterPort     = 9100
	prometheusPort   = 9090
	alertmanagerPort = 9093
)

// prometheusConfig scrapes and evaluates every second: five to sixty times as often as is usual.
func prometheusConfig(watched, monitor string) string {
	return fmt.Sprintf(`global:
  scrape_interval: 1s
  scrape_timeout: 1s
  evaluation_interval: 1s
rule_files: [%s]
alerting:
  alertmanagers:
    - static_configs: [{targets: ['%s:%d']}]
scrape_configs:
  - job_name: node
    static_configs: [{targets: ['%s:%d']}]
`, rulesFile, monitor, alertmanagerPort, watched, exporterPort)
}

// chainRules fire at the first evaluation that sees the carrier gone. Between a scrape and the evaluation passes always the same time,
// which Prometheus makes of hashes, of the group's name among others: another round has another one.
func chainRules(link string, round int) string {
	return fmt.Sprintf(`groups:
  - name: links-%d
    rules:
      - alert: CarrierLost
        expr: node_network_carrier{device="%s"} == 0
        for: 0s
`, round, link)
}

// alertmanagerConfig tells each alert by itself and at once. An alert of a group that was told of before waits for the group's next
// interval, and a group lives on for up to 30 s: with faults a few seconds apart 1 s of interval would be measured, which a fault that
// comes alone does not wait for. So it is short; the clear gains most by it.
func alertmanagerConfig(url string) string {
	return fmt.Sprintf(`route:
  receiver: consumer
  group_by: ['...']
  group_wait: 0s
  group_interval: 10ms
  repeat_interval: 4h
receivers:
  - name: consumer
    webhook_configs: [{url: '%s', send_resolved: true}]
`, url)
}

// newChain starts all of it; it runs until the hosts end. Addresses are those that the hosts have for each other.
func newChain(watched *lab.Host, watchedAddr string, monitor *lab.Host, monitorAddr, link string) (c *chain, err error) {
	c = &chain{monitor: monitor, monitorAddr: monitorAddr, words: make(chan chainWord, 4096)}
	ln, err := monitor.Listen(monitorAddr + ":0")
	if err != nil {
		return nil, err
	}
	c.server = serve(ln, c.take)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.server.Close())
		}
	}()
	for file, text := range map[string]string{
		prometheusFile: prometheusConfig(watchedAddr, monitorAddr), rulesFile: chainRules(link, 0), alertmanagerFile: alertmanagerConfig("http://" + ln.Addr().String() + "/"),
	} {
		if err := monitor.WriteFile(file, text, 0o644); err != nil {
			return nil, err
		}
	}
	// One collector of some fifty; the domains' taps, which are no uplinks, are left out.
	if c.exporter, err = watched.Start("prometheus-node-exporter", "--collector.disable-defaults", "--collector.netclass",
		"--collector.netclass.ignored-devices=^(lo|vnet.*)$", fmt.Sprintf("--web.listen-address=%s:%d", watchedAddr, exporterPort)); err != nil {
		return nil, err
	}
	// Without a cluster Alertmanager waits for no other one.
	if c.alertmanager, err = monitor.Start("prometheus-alertmanager", "--config.file="+alertmanagerFile, "--storage.path="+lab.Dir+"/alertmanager",
		fmt.Sprintf("--web.listen-address=%s:%d", monitorAddr, alertmanagerPort), "--cluster.listen-address="); err != nil {
		return nil, err
	}
	if err := c.ready(c.alertmanager, alertmanagerPort); err != nil {
		return nil, err
	}
	if c.prometheus, err = monitor.Start("prometheus", "--config.file="+prometheusFile, "--storage.tsdb.path="+lab.Dir+"/prometheus",
		fmt.Sprintf("--web.listen-address=%s:%d", monitorAddr, prometheusPort), "--log.level=warn"); err != nil {
		return nil, err
	}
	if err := c.ready(c.prometheus, prometheusPort); err != nil {
		return nil, err
	}
	return c, c.evaluated(link)
}

func (c *chain) take(_ http.Header, body []byte, at time.Time) {
	var m struct {
		Alerts []struct {
			Status string
			Labels map[string]string
		}
	}
	err := json.Unmarshal(body, &m)
	if err != nil {
		c.words <- chainWord{err: fmt.Errorf("a body of Alertmanager can't be read: %w", err)}
	}
	for _, a := range m.Alerts {
		c.words <- chainWord{firing: a.Status == "firing", device: a.Labels["device"], body: string(body), at: at}
	}
}

// get asks a part of the chain over its host.
func (c *chain) get(port int, path string) (status int, answer map[string]any, err error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		return c.monitor.DialTimeout(addr, 5*time.Second)
	}}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, fmt.Sprintf("http://%s:%d%s", c.monitorAddr, port, path), http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		err = json.NewDecoder(resp.Body).Decode(&answer)
	}
	return resp.StatusCode, answer, err
}

func (c *chain) ready(p *lab.Process, port int) error {
	return c.until(fmt.Sprintf("port %d to be ready", port), p, func() bool {
		status, _, err := c.get(port, "/-/ready")
		return err == nil && status == http.StatusOK
	})
}

// until waits for a part of the chain.
func (c *chain) until(what string, p *lab.Process, is func() bool) error {
	late := time.After(patience)
	for !is() {
		select {
		case <-p.Exited():
			return fmt.Errorf("%s: waiting for %s, it ended: %s", c.monitor.Name, what, p.Log())
		case <-late:
			return fmt.Errorf("%s: waited %v for %s; it says: %s", c.monitor.Name, patience, what, p.Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// evaluated waits until Prometheus has the link's carrier, has evaluated the rules of this round, and knows its Alertmanager, which after a
// reload takes it up to 5 s; an alert of before is lost for a minute. A reload forgets Alertmanager before it takes the rules, so they are asked for first.
func (c *chain) evaluated(link string) error {
	want := fmt.Sprint("links-", c.rounds)
	return c.until("the rules "+want+", a scrape and the Alertmanager", c.prometheus, func() bool {
		return c.has("/api/v1/rules", func(group map[string]any) bool {
			last, _ := group["lastEvaluation"].(string)
			return group["name"] == want && last != "" && !strings.HasPrefix(last, "0001")
		}, "groups") &&
			c.has(`/api/v1/query?query=node_network_carrier%7Bdevice=%22`+link+`%22%7D`, anyOf, "result") &&
			c.has("/api/v1/alertmanagers", anyOf, "activeAlertmanagers")
	})
}

func anyOf(map[string]any) bool { return true }

// has reports whether Prometheus's answer has such a thing in a list of its data.
func (c *chain) has(path string, is func(map[string]any) bool, list string) bool {
	_, answer, err := c.get(prometheusPort, path)
	if err != nil {
		return false
	}
	data, _ := answer["data"].(map[string]any)
	things, _ := data[list].([]any)
	return slices.ContainsFunc(things, func(thing any) bool {
		one, ok := thing.(map[string]any)
		return ok && is(one)
	})
}

// shift has Prometheus evaluate at another time after each scrape.
func (c *chain) shift(link string) error {
	c.rounds++
	if err := c.monitor.WriteFile(rulesFile, chainRules(link, c.rounds), 0o644); err != nil {
		return err
	}
	if err := c.prometheus.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("prometheus: reload: %w", err)
	}
	return c.evaluated(link)
}

// stop ends it, and its consumer.
func (c *chain) stop() error {
	err := c.server.Close()
	for _, p := range []*lab.Process{c.prometheus, c.alertmanager, c.exporter} {
		if p != nil {
			err = errors.Join(err, p.Kill())
		}
	}
	return err
}
