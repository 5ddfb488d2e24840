package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"go.yaml.in/yaml/v4"

	"github.com/paramedic-ha/paramedic/hw"
)

const (
	rulesFile     = "../packaging/prometheus/paramedic.rules.yml"
	rulesTests    = "../packaging/prometheus/paramedic.rules.test.yml"
	dashboardFile = "../packaging/grafana/paramedic.json"
	manual        = "../docs/metrics.md"
)

// promtool is Prometheus's own judge of what is made for it.
func promtool(t *testing.T, stdin []byte, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("promtool is Debian's package prometheus, which make deps installs: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// scrape is what an agent answers a Prometheus, over its socket.
func (h *clusterHost) scrape() []byte {
	h.t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", h.config.API.Socket)
	}}}
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://agent/metrics", http.NoBody)
	if err != nil {
		h.t.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		h.t.Fatalf("GET /metrics: %s, %v", answer.Status, err)
	}
	return body
}

func (h *clusterHost) gather() map[string]*dto.MetricFamily {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	all := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		all[f.GetName()] = f
	}
	return all
}

// busy is a cluster whose first host has seen a fault begin and end, and told a consumer of it; it shows all that it ever will.
func busy(t *testing.T, size int) *hosts {
	t.Helper()
	h := newHosts(t, size)
	h.start()
	r := receive(t)
	h.subscribe(0, r)
	h.all[0].say(fails)
	r.await(t, 1)
	h.all[0].say(recovers)
	r.await(t, 2)
	eventually(t, "the last figures are there", func() bool {
		all := h.all[0].gather()
		return all["paramedic_watch_echo"] != nil && all["paramedic_cluster_records"] != nil
	})
	return h
}

func TestPrometheusFindsNoFaultWithTheNamesOfMetrics(t *testing.T) {
	if out := promtool(t, busy(t, 2).all[0].scrape(), "check", "metrics"); out != "" {
		t.Errorf("promtool check metrics: %s", out)
	}
}

// row is a metric in the manual's tables.
type row struct {
	kind    string
	labels  map[string][]string // by name: the values; none: they come from the configuration
	meaning string
}

var (
	metricRow = regexp.MustCompile("(?m)^\\| `(paramedic_[a-z_]+)` \\| (\\w+) \\| (.*) \\| (.*) \\|$")
	labelCell = regexp.MustCompile("`([a-z]+)`: ([^;]+)")
	configed  = []string{"source", "subscription", "version", "goversion"}
)

func rows(t *testing.T) map[string]row {
	t.Helper()
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]row)
	for _, m := range metricRow.FindAllStringSubmatch(string(page), -1) {
		r := row{kind: m[2], labels: make(map[string][]string), meaning: m[4]}
		for _, l := range labelCell.FindAllStringSubmatch(m[3], -1) {
			if slices.Contains(configed, l[1]) {
				r.labels[l[1]] = nil
				continue
			}
			r.labels[l[1]] = strings.Split(strings.TrimSpace(l[2]), ", ")
		}
		all[m[1]] = r
	}
	return all
}

// Each metric has a row in the manual, with its type and its labels, and the values that each label may have: what a host is called, an alarm, a
// domain or a project is none of them. And each row is of a metric.
func TestTheManualHasEachMetricWithItsLabelsAndTheirBounds(t *testing.T) {
	documented, h := rows(t), busy(t, 2)
	exported := h.all[0].gather()
	delete(documented, "paramedic_source_events_total") // see TestTheManualHasWhatSourcesCount
	for name, f := range exported {
		if !strings.HasPrefix(name, "paramedic_") {
			continue
		}
		want, ok := documented[name]
		if !ok {
			t.Errorf("%s is not in docs/metrics.md", name)
			continue
		}
		if kind := strings.ToLower(f.GetType().String()); kind != want.kind {
			t.Errorf("%s is a %s; the manual says %s", name, kind, want.kind)
		}
		seen := make(map[string][]string)
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) != len(want.labels) {
				t.Errorf("%s has the labels %v; the manual says %v", name, m.GetLabel(), want.labels)
			}
			for _, l := range m.GetLabel() {
				values, ok := want.labels[l.GetName()]
				if !ok || values != nil && !slices.Contains(values, l.GetValue()) {
					t.Errorf("%s{%s=%q}: the manual says %v", name, l.GetName(), l.GetValue(), want.labels)
				}
				seen[l.GetName()] = append(seen[l.GetName()], l.GetValue())
			}
		}
		for label, values := range want.labels {
			for _, v := range values {
				if !slices.Contains(seen[label], v) {
					t.Errorf("%s has no series of %s=%q, which the manual has; each should be there from the first scrape on", name, label, v)
				}
			}
		}
	}
	for name := range documented {
		if exported[name] == nil {
			t.Errorf("docs/metrics.md has %s, which is not exported", name)
		}
	}
}

// What the sources count is all in the manual. None of them is started.
func TestTheManualHasWhatSourcesCount(t *testing.T) {
	a := start(t, testConfig(t), oneSource("nic", idle))
	sources, err := buildSources(sourceTable(a), nil, testConfig(t), a.log)
	if err != nil {
		t.Fatal(err)
	}
	documented, counted := rows(t)["paramedic_source_events_total"].labels["kind"], make(map[string]bool)
	for _, s := range sources {
		if c, ok := s.source.(hw.Counted); ok {
			for kind := range c.Counts() {
				if counted[kind] = true; !slices.Contains(documented, kind) {
					t.Errorf("docs/metrics.md does not have %q, which source %s counts", kind, s.source.Name())
				}
			}
		}
	}
	for _, kind := range documented {
		if !counted[kind] {
			t.Errorf("docs/metrics.md has %q, which no source counts", kind)
		}
	}
}

// The series of an agent are those of its sources and subscriptions, however many hosts there are.
func TestMoreHostsMakeNoMoreSeries(t *testing.T) {
	count := func(size int) (n int) {
		for _, f := range busy(t, size).all[0].gather() {
			n += len(f.GetMetric())
		}
		return n
	}
	if few, more := count(2), count(5); few != more {
		t.Errorf("%d series with two hosts, %d with five", few, more)
	}
}

type ruleFile struct {
	Groups []struct {
		Name  string
		Rules []struct {
			Alert, Expr, For    string
			Labels, Annotations map[string]string
		}
	}
}

func readRules(t *testing.T) (f ruleFile) {
	t.Helper()
	b, err := os.ReadFile(rulesFile)
	if err == nil {
		err = yaml.Unmarshal(b, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

type dashboard struct {
	UID           *string
	SchemaVersion int `json:"schemaVersion"`
	Templating    struct {
		List []struct{ Name, Type, Query any }
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type, Title string
	Datasource  struct{ Type, UID string }
	GridPos     struct{ X, Y, W, H int } `json:"gridPos"`
	Targets     []struct {
		Expr, RefID string
		Datasource  struct{ Type, UID string }
	}
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	b, err := os.ReadFile(dashboardFile)
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// expressions are those of the dashboard, with what Grafana puts in.
func (d dashboard) expressions() (all []string) {
	fill := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*")
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, fill.Replace(target.Expr))
		}
	}
	return all
}

var (
	metricName = regexp.MustCompile(`\b(?:paramedic|process|go)_[a-z_]+\b`)
	ourCommand = regexp.MustCompile(`\bparamedic ([a-z]+)`)
)

// Each alert fires when it should and not when it should not, is in the manual, and says what to do with a command that there is.
func TestEachAlertIsTestedAndExplained(t *testing.T) {
	promtool(t, nil, "check", "rules", rulesFile)
	promtool(t, nil, "test", "rules", rulesTests)
	b, err := os.ReadFile(rulesTests)
	if err != nil {
		t.Fatal(err)
	}
	var tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(b, &tests); err != nil {
		t.Fatal(err)
	}
	fires, quiet := make(map[string]bool), make(map[string]bool)
	for _, one := range tests.Tests {
		for _, a := range one.AlertRuleTest {
			fires[a.Alertname] = fires[a.Alertname] || len(a.ExpAlerts) > 0
			quiet[a.Alertname] = quiet[a.Alertname] || len(a.ExpAlerts) == 0
		}
	}
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	commands, err := os.ReadFile("../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := 0
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			alerts++
			if !fires[r.Alert] || !quiet[r.Alert] {
				t.Errorf("%s: shown to fire: %v, to be quiet: %v", r.Alert, fires[r.Alert], quiet[r.Alert])
			}
			if s := r.Labels["severity"]; s != "critical" && s != "warning" {
				t.Errorf("%s has the severity %q", r.Alert, s)
			}
			if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s says nothing", r.Alert)
			}
			wait := r.For
			if wait == "" {
				wait = "at once"
			}
			if row := fmt.Sprintf("| `%s` | %s | %s |", r.Alert, r.Labels["severity"], wait); !strings.Contains(string(page), row) {
				t.Errorf("docs/metrics.md has no row %s", row)
			}
			for _, m := range ourCommand.FindAllStringSubmatch(r.Annotations["description"], -1) {
				if !strings.Contains(string(commands), "\n## "+m[1]+"\n") {
					t.Errorf("%s: paramedic %s is no command", r.Alert, m[1])
				}
			}
		}
	}
	if n := strings.Count(string(page), "\n| `Paramedic"); n != alerts {
		t.Errorf("docs/metrics.md has %d alerts, there are %d", n, alerts)
	}
}

// Each metric that a rule or the dashboard asks for is in a real scrape.
func TestRulesAndDashboardAskForWhatThereIs(t *testing.T) {
	var asked []string
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			asked = append(asked, r.Expr)
		}
	}
	there := make(map[string]bool)
	for name, f := range busy(t, 2).all[0].gather() {
		there[name] = true
		if f.GetType() == dto.MetricType_HISTOGRAM {
			there[name+"_bucket"] = true
		}
	}
	there["paramedic_source_events_total"] = true // of sources that count: see TestWhatASourceCountsIsExported
	for _, expr := range append(asked, readDashboard(t).expressions()...) {
		for _, name := range metricName.FindAllString(expr, -1) {
			if !there[name] {
				t.Errorf("%s asks for %s, which is not exported", expr, name)
			}
		}
	}
}

// The dashboard is one that any Grafana from version 10 on can be given: its data source is chosen there, and each panel has its place.
func TestTheDashboardFitsAnyGrafana(t *testing.T) {
	d := readDashboard(t)
	if d.UID != nil || d.SchemaVersion < 36 || d.SchemaVersion > 39 {
		t.Errorf("uid %v, schema version %d", d.UID, d.SchemaVersion)
	}
	if v := d.Templating.List[0]; v.Name != "datasource" || v.Type != "datasource" || v.Query != "prometheus" {
		t.Errorf("the first variable is %v, want the data source", v)
	}
	var rules bytes.Buffer
	rules.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, expr := range d.expressions() {
		fmt.Fprintf(&rules, "      - record: panel:%d\n        expr: %q\n", i, expr)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, rules.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, nil, "check", "rules", file)

	var sections []string
	ids := make(map[int]bool)
	taken := make(map[[2]int]string)
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: its id is another's, or it has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" || x >= 24 {
					t.Fatalf("%q lies on %q, or beyond the edge", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			sections = append(sections, p.Title)
			continue
		}
		if p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%q has the data source %q and %d targets", p.Title, p.Datasource.UID, len(p.Targets))
		}
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" || target.Expr == "" {
				t.Errorf("%q: %+v", p.Title, target)
			}
		}
	}
	if want := []string{"Fleet", "Alarms", "Delivery latency per stage", "Consumers", "Sources", "Gossip"}; !slices.Equal(sections, want) {
		t.Errorf("the rows are %q, want %q", sections, want)
	}
}
