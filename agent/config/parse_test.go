package config

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/tools/txtar"

	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

var update = flag.Bool("update", false, "write the golden files and docs/configuration.md anew")

var compare = cmp.Options{
	cmpopts.IgnoreFields(Subscription{}, "Secret", "Authorities", "Credentials"), cmpopts.IgnoreFields(Proxy{}, "Credentials"),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// Each archive holds a configuration and what is said of it.
func TestEveryProblemIsToldWithItsPlaceAndRemedy(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil || len(archive.Files) != 2 {
				t.Fatalf("want the files paramedic.yaml and problems: %v", err)
			}
			_, err = Parse("paramedic.yaml", archive.Files[0].Data)
			var problems Errors
			if !errors.As(err, &problems) {
				t.Fatalf("Parse: %v, want problems", err)
			}
			got := problems.Error() + "\n"
			if *update {
				archive.Files[1].Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnEmptyFileIsTheDefault(t *testing.T) {
	for _, data := range []string{"", "\n", "# nothing\n", "---\n", "{}", "hw:\nnotify: {subscriptions: }\n", "\ufeffnode:\n"} {
		cfg, err := Parse("empty", []byte(data))
		if err != nil {
			t.Errorf("%q: %v", data, err)
			continue
		}
		if diff := cmp.Diff(Default(), cfg, compare); diff != "" {
			t.Errorf("%q (-want +got):\n%s", data, diff)
		}
	}
}

func TestDefaultsPassTheirOwnChecks(t *testing.T) {
	var visit func(reflect.Type, string)
	visit = func(typ reflect.Type, path string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := join(path, f.Tag.Get("yaml"))
			for _, check := range []string{f.Tag.Get("check"), f.Tag.Get("keys")} {
				_, isText := texts[check]
				if _, isWord := words[check]; check != "" && !isText && !isWord {
					t.Errorf("%s: there is no check %q", name, check)
				}
			}
			if d := f.Tag.Get("default"); d != "" {
				if wrong := setText(reflect.New(f.Type).Elem(), d, f.Tag); wrong != nil {
					t.Errorf("%s: %v", name, wrong)
				}
			}
			elem := f.Type
			for elem.Kind() == reflect.Slice || elem.Kind() == reflect.Pointer {
				elem = elem.Elem()
			}
			if elem.Kind() == reflect.Struct && elem != prefixType && f.Tag.Get("yaml") != "-" {
				visit(elem, name)
			}
		}
	}
	visit(reflect.TypeFor[Config](), "")
}

func TestEveryKeyReachesItsField(t *testing.T) {
	cfg, err := Parse("full", []byte(`
node: {name: cmp-1, zone: 12, labels: {az: nova-1}}
cluster:
  bind: 10.0.0.1
  advertise: "[fd00::1]:7000"
  join: [cmp-2, "cmp-3:7946", 10.0.0.4]
  label: prod
  key_file: /k
  secrets_key_file: secrets.key
  watch: 10.1.0.1:7000
  witness: 10.1.0.254
  detect: {probable: 400ms, confirmed: 1s}
  insecure: false
api: {socket: /tmp/api.sock}
hw:
  nic: {disabled: true, include: ["veth*", eth0], exclude: [docker0]}
  virt:
    disabled: true
    uri: test:///default
    socket: /run/x
    timeout: 500ms
    resync: 1m
    owners:
      uuids: {11111111-2222-3333-4444-555555555555: p1}
      names: {"vnf-*": p2}
      metadata: {namespace: "http://x", element: project}
    vnfs:
      uuids: {11111111-2222-3333-4444-555555555555: vnf-1}
      names: {"vfw-*": vnf-2}
      expression: "^(vnf-[0-9]+)_"
      metadata: {namespace: "http://x", element: vnf}
      vnfc: {namespace: "http://x", element: vnfc}
  kmsg: {disabled: true, without: [oops], ignore: ["sd[a-c]"], patterns: [{name: tape, match: "^st0: ", severity: major}]}
  ipmi: {disabled: true, device: 1, interval: 1s, scan: 1m, timeout: 5s, ignore: ["CPU2*"], power_supplies: 2, fans: 4}
  mem: {disabled: true, poll: 1s, corrected: 5, window: 1m}
  disk: {disabled: true, poll: 5s, full: 90, filesystems: ["/srv/*"], health: 0s, sectors: 1}
  pressure: {disabled: true, poll: 1s, window: 1m, memory: 1, io: 2, cpu: 3, stolen: 4, waiting: 5, memory_left: 6, tables_left: 7}
  service:
    disabled: true
    units: [{name: "kolla-*", network: true, severity: major}, {name: a.socket}]
    without: ["ntp*"]
    restarts: 5
    window: 1h
    timeout: 1s
    resync: 1m
  clock: {disabled: true, poll: 1m, limit: 100ms}
  host: {disabled: true, poll: 2s, corrected: 6, window: 2m, throttled: 7, sensors: never}
  ovs: {disabled: true, socket: /run/y, interval: 1s, timeout: 3s}
correlate:
  policies: [{match: {resource: "nic/*", condition: carrier}, severity: major, hold_down: 0s}]
notify:
  dir: /tmp/n
  retry: {max_age: 1h}
  allow_callbacks: [10.0.0.0/8, "fd00::/8"]
  sol: {api_root: "https://faults.example/", vim_connection_id: vim-1}
  proxy: {url: "http://proxy:3128/", user: p, password_file: pw}
  subscriptions:
  - name: a
    endpoints: ["http://10.1.2.3:80/x", "https://vnfm.example/y"]
    deliver_to: all
    rate: 60
    format: sol
    filter:
      projects: [p1]
      domains: [vm-1]
      hosts: ["cmp-*"]
      zones: [rack-a]
      labels: {az: [nova-1, "nova-2*"]}
      resources: ["nic/*"]
      resource_types: [nic, domain]
      conditions: [carrier, storage]
      min_severity: warning
      kinds: [fault]
      states: [at-risk, failed]
      min_confidence: probable
      vnfs: [vnf-1]
      sol:
        notification_types: [AlarmNotification]
        faulty_resource_types: [NETWORK]
        perceived_severities: [CRITICAL]
        event_types: [EQUIPMENT_ALARM]
        probable_causes: [network]
    tls: {ca_file: ca.pem, cert_file: c.pem, key_file: k.pem, server_name: vnfm}
    auth: {basic: {user: u, password_file: pw2}}
    proxy: direct
  - {name: b, heartbeat: 30s, auth: {bearer: {token_file: t}}, endpoints: ["http://10.0.0.1/"], role: consumer, filter: {projects: [p1], resource_types: [domain], conditions: [network, crash]}}
history: {max_alarms: 7, max_age: 2h}
log: {level: debug, format: json}
`))
	if err != nil {
		t.Fatal(err)
	}
	zero := time.Duration(0)
	want := &Config{
		Node: Node{Name: "cmp-1", Zone: "12", Labels: map[string]string{"az": "nova-1"}},
		Cluster: Cluster{
			Bind: "10.0.0.1", Advertise: "[fd00::1]:7000", Join: []string{"cmp-2", "cmp-3:7946", "10.0.0.4"}, Label: "prod",
			KeyFile: "/k", SecretsKeyFile: "secrets.key", Watch: "10.1.0.1:7000", Witness: "10.1.0.254",
			Detect: Detect{Probable: 400 * time.Millisecond, Confirmed: time.Second},
		},
		API: API{Socket: "/tmp/api.sock"},
		HW: HW{
			NIC: NIC{Disabled: true, Include: []string{"veth*", "eth0"}, Exclude: []string{"docker0"}},
			Virt: Virt{
				Disabled: true, URI: "test:///default", Socket: "/run/x", Timeout: 500 * time.Millisecond, Resync: time.Minute,
				Owners: Owners{
					UUIDs:    map[string]string{"11111111-2222-3333-4444-555555555555": "p1"},
					Names:    map[string]string{"vnf-*": "p2"},
					Metadata: MetadataPath{Namespace: "http://x", Element: "project"},
				},
				VNFs: VNFs{
					UUIDs:      map[string]string{"11111111-2222-3333-4444-555555555555": "vnf-1"},
					Names:      map[string]string{"vfw-*": "vnf-2"},
					Expression: "^(vnf-[0-9]+)_",
					Metadata:   MetadataPath{Namespace: "http://x", Element: "vnf"},
					VNFC:       MetadataPath{Namespace: "http://x", Element: "vnfc"},
				},
			},
			Kmsg: Kmsg{
				Disabled: true, Without: []string{"oops"}, Ignore: []string{"sd[a-c]"},
				Patterns: []KmsgPattern{{Name: "tape", Match: "^st0: ", Severity: "major"}},
			},
			Mem:  Mem{Disabled: true, Poll: time.Second, Corrected: 5, Window: time.Minute},
			Disk: Disk{Disabled: true, Poll: 5 * time.Second, Full: 90, Filesystems: []string{"/srv/*"}, Sectors: 1},
			OVS:  OVS{Disabled: true, Socket: "/run/y", Interval: time.Second, Timeout: 3 * time.Second},
			Pressure: Pressure{
				Disabled: true, Poll: time.Second, Window: time.Minute,
				Memory: 1, IO: 2, CPU: 3, Stolen: 4, Waiting: 5, MemoryLeft: 6, TablesLeft: 7,
			},
			Service: Service{
				Disabled: true, Units: []ServiceUnit{{Name: "kolla-*", Network: true, Severity: "major"}, {Name: "a.socket"}},
				Without: []string{"ntp*"}, Restarts: 5, Window: time.Hour, Timeout: time.Second, Resync: time.Minute,
			},
			Clock: Clock{Disabled: true, Poll: time.Minute, Limit: 100 * time.Millisecond},
			IPMI: IPMI{
				Disabled: true, Device: 1, Interval: time.Second, Scan: time.Minute, Timeout: 5 * time.Second,
				Ignore: []string{"CPU2*"}, PowerSupplies: 2, Fans: 4,
			},
			Host: Host{
				Disabled: true, Poll: 2 * time.Second, Corrected: 6, Window: 2 * time.Minute, Throttled: 7, Sensors: "never",
			},
		},
		Correlate: Correlate{Policies: []Policy{{
			Match: PolicyMatch{Resource: "nic/*", Condition: "carrier"}, Severity: "major", HoldDown: &zero,
		}}},
		Notify: Notify{
			Dir: "/tmp/n", Retry: Retry{MaxAge: time.Hour},
			AllowCallbacks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")},
			SOL:            SOL{APIRoot: "https://faults.example/", VIMConnectionID: "vim-1"},
			Proxy:          Proxy{URL: "http://proxy:3128/", User: "p", PasswordFile: "pw"},
			Subscriptions: []Subscription{
				{
					Name: "a", Endpoints: []string{"http://10.1.2.3:80/x", "https://vnfm.example/y"}, DeliverTo: "all", Rate: 60, Format: "sol", Role: "admin",
					Filter: Filter{
						Projects: []string{"p1"}, Domains: []string{"vm-1"}, ResourceTypes: []string{"nic", "domain"},
						Hosts: []string{"cmp-*"}, Zones: []string{"rack-a"}, Labels: map[string][]string{"az": {"nova-1", "nova-2*"}}, Resources: []string{"nic/*"},
						Conditions: []string{"carrier", "storage"}, MinSeverity: "warning", Kinds: []string{"fault"},
						States: []string{"at-risk", "failed"}, MinConfidence: "probable", VNFs: []string{"vnf-1"},
						SOL: SOLFilter{
							NotificationTypes: []string{"AlarmNotification"}, FaultyResourceTypes: []string{"NETWORK"},
							PerceivedSeverities: []string{"CRITICAL"}, EventTypes: []string{"EQUIPMENT_ALARM"}, ProbableCauses: []string{"network"},
						},
					},
					TLS:   SubscriptionTLS{CAFile: "ca.pem", CertFile: "c.pem", KeyFile: "k.pem", ServerName: "vnfm"},
					Auth:  SubscriptionAuth{Basic: BasicAuth{User: "u", PasswordFile: "pw2"}},
					Proxy: "direct",
				},
				{
					Name: "b", Heartbeat: 30 * time.Second, Auth: SubscriptionAuth{Bearer: BearerAuth{TokenFile: "t"}}, Endpoints: []string{"http://10.0.0.1/"}, DeliverTo: "first", Format: "native", Role: "consumer",
					Filter: Filter{Projects: []string{"p1"}, ResourceTypes: []string{"domain"}, Conditions: []string{"network", "crash"}, MinConfidence: "confirmed"},
				},
			},
		},
		History: History{MaxAlarms: 7, MaxAge: 2 * time.Hour},
		Log:     Log{Level: "debug", Format: "json"},
	}
	if diff := cmp.Diff(want, cfg, compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	wantPolicies := []correlate.Policy{{
		Resource: "nic/*", Condition: correlate.CondCarrier, Severity: correlate.SeverityMajor, HoldDown: &zero,
	}}
	if diff := cmp.Diff(wantPolicies, cfg.Policies()); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	subs := cfg.Subscriptions()
	wantFilter := notify.Filter{
		Projects: []string{"p1"}, Domains: []string{"vm-1"}, ResourceTypes: []correlate.Kind{correlate.KindNIC, correlate.KindDomain},
		Hosts: []string{"cmp-*"}, Zones: []string{"rack-a"}, Labels: map[string][]string{"az": {"nova-1", "nova-2*"}}, Resources: []string{"nic/*"},
		Conditions: []correlate.Condition{correlate.CondCarrier, correlate.CauseStorage}, MinSeverity: correlate.SeverityWarning, Kinds: []string{"fault"},
		States: []correlate.State{correlate.StateAtRisk, correlate.StateFailed}, MinConfidence: correlate.ConfidenceProbable,
		VNFs: []string{"vnf-1"},
		SOL: notify.SOLFilter{
			NotificationTypes: []string{"AlarmNotification"}, FaultyResourceTypes: []string{"NETWORK"},
			PerceivedSeverities: []string{"CRITICAL"}, EventTypes: []string{"EQUIPMENT_ALARM"}, ProbableCauses: []string{"network"},
		},
	}
	if site := cfg.Notify.SOL.Site(); site.APIRoot != "https://faults.example" || site.VIM != "vim-1" {
		t.Errorf("%+v", site)
	}
	if diff := cmp.Diff(wantFilter, subs[0].Filter); diff != "" {
		t.Errorf("filter (-want +got):\n%s", diff)
	}
	if subs[0].Heartbeat != 0 || subs[1].Heartbeat != 30*time.Second {
		t.Errorf("heartbeats every %v and %v", subs[0].Heartbeat, subs[1].Heartbeat)
	}
	if subs[0].DeliverTo != notify.DeliverAll || subs[0].MaxRate != 60 || subs[1].DeliverTo != notify.DeliverFirst || subs[1].MaxRate != 0 {
		t.Errorf("%+v", subs)
	}
	if subs[0].ID != notify.FileID("prod", "a") || subs[1].ID != notify.FileID("prod", "b") || subs[0].Origin != notify.OriginFile {
		t.Errorf("subscriptions are not the file's: %+v", subs)
	}
	if want := (notify.Link{ServerName: "vnfm", Direct: true}); subs[0].Link != want || subs[1].Link != (notify.Link{}) {
		t.Errorf("links %+v and %+v", subs[0].Link, subs[1].Link)
	}
	if p := cfg.Proxy(); p == nil || p.Address != "proxy:3128" || Default().Proxy() != nil {
		t.Errorf("proxy %+v", p)
	}
}

func TestAHostIsWatchedBesideItsGossipUnlessItSaysWhere(t *testing.T) {
	for _, c := range []struct{ cluster, bind, advertise string }{
		{"bind: 10.0.0.1", "10.0.0.1:7947", "invalid AddrPort"},
		{"bind: 10.0.0.1:8000", "10.0.0.1:8001", "invalid AddrPort"},
		{"bind: '[::]:7946', advertise: '[fd00::1]:9000'", "[::]:7947", "[fd00::1]:7947"},
		{"bind: 10.0.0.1, watch: 10.1.0.1", "10.1.0.1:7947", "invalid AddrPort"},
		{"bind: 10.0.0.1, watch: '[fd00::2]:7000'", "[fd00::2]:7000", "invalid AddrPort"},
	} {
		cfg, err := Parse("watch", []byte("cluster: {insecure: true, "+c.cluster+"}"))
		if err != nil {
			t.Errorf("%s: %v", c.cluster, err)
			continue
		}
		if bind, advertise := cfg.Watch(); bind.String() != c.bind || advertise.String() != c.advertise {
			t.Errorf("%s: watched at %v, the others are told %v", c.cluster, bind, advertise)
		}
	}
}

func TestLoadReadsSecretsAndSaysWhatIsWrongWithThem(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("creds", "", 0o600)
	credentials := t.TempDir()
	if err := os.WriteFile(filepath.Join(credentials, "cred"), []byte(notify.GenerateSecret()), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	write("good", notify.GenerateSecret()+"\n", 0o600)
	write("short", "whsec_c2hvcnQ=\n", 0o600)
	write("open", notify.GenerateSecret(), 0o644)
	write("big", strings.Repeat("x", 5000), 0o600)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "paramedic.yaml")
	load := func(names ...string) (*Config, Errors) {
		t.Helper()
		var b strings.Builder
		b.WriteString("notify:\n  subscriptions:\n")
		for _, name := range names {
			b.WriteString("  - {name: " + name + ", endpoints: [\"http://h/\"], secret_file: " + name + "}\n")
		}
		write("paramedic.yaml", b.String(), 0o644)
		cfg, err := Load(config)
		var problems Errors
		if err != nil && !errors.As(err, &problems) {
			t.Fatal(err)
		}
		return cfg, problems
	}
	cfg, problems := load("good", "cred")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	host, _ := os.Hostname()
	if cfg.Node.Name != host {
		t.Errorf("node %q, want the host name %q", cfg.Node.Name, host)
	}
	for _, s := range cfg.Subscriptions() {
		if s.Secret.IsZero() {
			t.Errorf("%s: no secret was read", s.Name)
		}
	}
	_, problems = load("short", "open", "big", "folder", "absent", "good")
	wants := []string{"bytes, want 24", "everybody may use it", "larger than", "not a regular file", "no such file"}
	if len(problems) != len(wants) {
		t.Fatalf("%d problems, want %d:\n%v", len(problems), len(wants), problems)
	}
	for i, want := range wants {
		p := problems[i]
		if !strings.Contains(p.Message, want) || p.Line != 3+i || p.Column == 0 || p.Remedy == "" || p.File != config {
			t.Errorf("problem %d is not about %q in line %d with a remedy:\n%v", i, want, 3+i, p)
		}
	}
}

func TestLoadReadsTheKeysOfTheClusterAndSaysWhatIsWrongWithThem(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	credentials := filepath.Join(dir, "credentials")
	if err := os.Mkdir(credentials, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", credentials)
	write("gossip.key", gossip.GenerateKey()+"\n# the one before\n"+gossip.GenerateKey()+"\n", 0o600)
	write("credentials/secrets.key", seal.GenerateKey()+"\n", 0o440) // its group is an access list's mask
	write("all", gossip.GenerateKey(), 0o604)
	write("group", seal.GenerateKey(), 0o640)
	write("short", "AAAA", 0o600)
	load := func(key, secrets string) (*Config, Errors) {
		t.Helper()
		file := write("paramedic.yaml", "node: {zone: z}\ncluster:\n  bind: 10.0.0.1\n  key_file: "+key+"\n  secrets_key_file: "+secrets+"\n", 0o644)
		cfg, err := Load(file)
		var problems Errors
		if err != nil && !errors.As(err, &problems) {
			t.Fatal(err)
		}
		return cfg, problems
	}
	cfg, problems := load("gossip.key", "secrets.key")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if c := cfg.Cluster; len(c.Keys) != 2 || c.Secrets == nil || c.KeyPath != filepath.Join(dir, "gossip.key") {
		t.Errorf("read %v %v %v", c.KeyPath, c.Keys, c.Secrets)
	}
	if p := cfg.Peer(); p.Zone != "z" || p.Bind != "10.0.0.1" || len(p.Keys.Keys) != 2 || p.Label != "default" {
		t.Errorf("peer: %+v", p)
	}
	for _, c := range []struct{ key, secrets, first, second, remedy string }{
		{"all", "group", "everybody may use it (mode 0604)", "its group may use it (mode 0640)", "chmod 0600 "},
		{"short", "gossip.key", "3 bytes long", "does not begin with", "keygen --"},
		{"absent", "/nowhere/secrets", "no such file", "no such file", "copy it from another host"},
		{".", "..", "not a regular file", "not a regular file", "name a file"},
	} {
		_, problems := load(c.key, c.secrets)
		if len(problems) != 2 {
			t.Errorf("%+v: %v", c, problems)
			continue
		}
		for i, want := range []string{c.first, c.second} {
			if p := problems[i]; !strings.Contains(p.Message, want) || !strings.Contains(p.Remedy, c.remedy) || p.Line != 4+i || p.Column == 0 {
				t.Errorf("problem %d is not about %q and %q in line %d:\n%v", i, want, c.remedy, 4+i, p)
			}
		}
	}
}

func TestAFileThatCannotBeReadIsSaidAtOnce(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, []byte(strings.Repeat("#", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		filepath.Join(dir, "absent"): "no such file", dir: "not a regular file", "/dev/zero": "not a regular file", large: "larger than",
	} {
		_, err := Load(file)
		var problems Errors
		if !errors.As(err, &problems) || len(problems) != 1 || problems[0].File != file ||
			!strings.Contains(problems[0].Message, want) || problems[0].Remedy == "" {
			t.Errorf("Load(%s) = %v, want one problem about %q", file, err, want)
		}
	}
}

func TestSecretsWrittenIntoTheFileAreNotRepeated(t *testing.T) {
	for _, text := range []string{
		"notify: {subscriptions: [{name: a, secret: whsec_HUSHHUSHHUSH, endpoints: []}]}",
		"notify:\n  subscriptions:\n  - name: a\n    secret: HUSHHUSH and more\n    endpoints: []",
		"notify: {subscriptions: [{name: a, endpoints: [\"http://user:HUSHHUSH@h/\"]}]}",
		"notify: {subscriptions: [{name: a, endpoints: [\"gopher://user:HUSHHUSH@h/\"]}]}",
		"api: {tokens: [{token: HUSHHUSH}]}",
		"password: HUSHHUSH",
		"node: {name: whsec_HUSH/HUSH}",
		"node: {name: a: whsec_HUSHHUSH}",
	} {
		_, err := Parse("f", []byte(text))
		if err == nil || strings.Contains(err.Error(), "HUSH") {
			t.Errorf("%s:\n%v", text, err)
		}
	}
}

// A secret that stands where its file is to be named is no name, and is not repeated; a file that is missing in a directory is.
func TestASecretInPlaceOfItsFileIsNotRepeated(t *testing.T) {
	dir := t.TempDir()
	for _, key := range []string{
		"notify: {proxy: {url: 'http://p:3128', user: u, password_file: %s}}",
		"notify: {subscriptions: [{name: a, endpoints: ['http://h/'], secret_file: %s}]}",
		"notify: {subscriptions: [{name: a, endpoints: ['http://h/'], auth: {basic: {user: u, password_file: %s}}}]}",
		"notify: {subscriptions: [{name: a, endpoints: ['https://h/'], auth: {bearer: {token_file: %s}}, other: x}]}",
		"notify: {subscriptions: [{name: a, endpoints: ['https://h/'], tls: {cert_file: c.pem, key_file: %s}}]}",
		"api: {listen: '127.0.0.1:1', tls: {cert_file: c.pem, key_file: %s}, tokens: [{name: a, role: admin, token_file: %[1]s}]}",
		"cluster: {bind: 10.0.0.1, key_file: %s, secrets_key_file: %[1]s}",
		"notify: {proxy: {password_file: %s}, : {",
	} {
		for _, value := range []string{"HUSH.4dor3", "/HUSH4dor3", "/HUSH/4dor3=", "'HUSH 4dor3'", "HUSH" + strings.Repeat("x", 300)} {
			file := filepath.Join(dir, "paramedic.yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, key, value), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(file); err == nil || strings.Contains(err.Error(), "HUSH") {
				t.Errorf("%s with %s:\n%v", key, value, err)
			}
		}
	}
	file, absent := filepath.Join(dir, "paramedic.yaml"), filepath.Join(dir, "absent.secret")
	if err := os.WriteFile(file, []byte("notify: {subscriptions: [{name: a, endpoints: ['http://h/'], secret_file: "+absent+"}]}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "secret file "+absent+": can't read it") {
		t.Errorf("a missing file is not named: %v", err)
	}
}

func TestManyProblemsAreCutShort(t *testing.T) {
	_, err := Parse("f", []byte(strings.Repeat("? [x]\n: 1\n", 5000)))
	var problems Errors
	if !errors.As(err, &problems) || len(problems) != maxProblems+1 || !strings.Contains(problems[maxProblems].Message, "4900 more") {
		t.Errorf("%d problems", len(problems))
	}
}

// Whatever the bytes: no panic, problems have a place within the file and a text, and good files are read.
func FuzzParse(f *testing.F) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range append(archives, "../../packaging/paramedic.yaml") {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		if archive := txtar.Parse(data); len(archive.Files) > 0 {
			data = archive.Files[0].Data
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("f", data)
		if err == nil {
			cfg.Policies()
			for _, s := range cfg.Subscriptions() {
				if err := s.Validate(); err != nil {
					t.Errorf("a good file's subscription is refused: %v", err)
				}
			}
			return
		}
		var problems Errors
		if !errors.As(err, &problems) || len(problems) == 0 || cfg != nil {
			t.Fatalf("%T with a config: %v", err, cfg != nil)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range problems {
			if p.Message == "" || p.Line < 0 || p.Line > lines || strings.ContainsRune(p.String(), '\x1b') {
				t.Errorf("%+v of %d lines", p, lines)
			}
		}
	})
}

// People write passwords under names of their own: an excerpt repeats what stands under known keys alone.
func TestWhatStandsUnderAnUnknownKeyIsNotRepeated(t *testing.T) {
	for _, text := range []string{
		"pass: Canary7x", "node: {pw: Canary7x, name: a}", "notify:\n  smtp:\n    pass: Canary7x", "notify: {smtp: [Canary7x]}", "hw: {nic: {include: [a], pin: 'Canary7x'}}", "? pass\n: Canary7x",
		"node: {name: [], pw: Canary7x, zone: [a]}", "node: {pw: \"Can\\x61ry7x Canary7x\", zone: [a]}", "notify:\n  smtp: {a: [Canary7x, {b: Canary7x}]}",
	} {
		_, err := Parse("paramedic.yaml", []byte(text))
		if err == nil || strings.Contains(err.Error(), "Canary7x") || !strings.Contains(err.Error(), "unknown key") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
