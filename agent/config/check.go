package config

import (
	"fmt"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v4"

	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw/host"
	"github.com/paramedic-ha/paramedic/hw/kmsg"
	"github.com/paramedic-ha/paramedic/notify"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// wrong is what a check finds, and what to do about it.
type wrong struct{ message, remedy string }

// words are the checks that allow a fixed set. An empty value never comes here: required says whether it may be.
var words = map[string][]string{
	"severity":          {"critical", "major", "minor", "warning", "indeterminate"},
	"min-severity":      {"critical", "major", "minor", "warning", "indeterminate"},
	"state":             {"failed", "degraded", "at-risk"},
	"confidence":        {"probable", "confirmed", "fenced"},
	"format":            format.Names(),
	"role":              {"admin", "consumer"},
	"proxy":             {"direct"},
	"api-role":          {"admin", "consumer", "monitor"},
	"notification-kind": {"fault"},
	"log-level":         {"debug", "info", "warn", "error"},
	"log-format":        {"text", "json"},
	"condition":         conditions(),
	"filter-condition":  append(correlate.Causes(), conditions()...),
	"deliver-to":        {notify.DeliverFirst, notify.DeliverAll},
	"mapped-state":      {"failed", "degraded", "at-risk", "ok"},
	"event-type":        {"communications", "quality-of-service", "processing-error", "equipment", "environmental"},
	"resource-type":     kinds(),
	"sol-notification":  format.SOLNotificationTypes,
	"sol-resource":      format.SOLFaultyResourceTypes,
	"sol-severity":      format.SOLPerceivedSeverities,
	"sol-event":         format.SOLEventTypes,
	"kernel-rule":       kmsg.Rules(),
	"kernel-sensors":    {string(host.SensorsAuto), string(host.SensorsAlways), string(host.SensorsNever)},
}

// laterWords are values of words that are known and not built yet.
var laterWords = map[string][]string{
	"notification-kind": {"maintenance", "prediction"},
}

// laterKeys are keys that are known and not built yet, by the path of what holds them; "*" stands for a list's elements.
var laterKeys = map[string][]string{
	"":   {"act", "maintenance"},
	"hw": {"power"},
}

// texts are the checks that look at the form.
var texts = map[string]struct {
	describe string
	check    func(string) *wrong
}{
	"name":                {"a name", checkName},
	"text":                {"text", checkText},
	"project":             {"a project", checkText},
	"path":                {"an absolute path", checkPath},
	"glob":                {"a glob", checkGlob},
	"expression":          {"a regular expression", checkExpression},
	"resource-glob":       {"a glob on resource ids", checkResourceGlob},
	"uuid":                {"a UUID", checkUUID},
	"user":                {"a user", checkUser},
	"proxy-url":           {"an http URL of host and port", checkProxyURL},
	"url":                 {"an http or https URL", checkURL},
	"libvirt-uri":         {"a libvirt URI", checkLibvirtURI},
	"bind-address":        {"an address of this host, with or without :port", checkBind},
	"peer-address":        {"an address, with or without :port", checkAddress},
	"witness":             {"a host name or an address, without a port", checkWitness},
	"peer":                {"a host name or an address, with or without :port", checkPeer},
	"listen-address":      {"an address of this host and a port", checkListen},
	"identity":            {"a name of at most 128 characters", checkIdentity},
	"certificate-subject": {"dns:name, uri:URI or cn:name", checkSubject},
}

func conditions() []string {
	var names []string
	for _, r := range correlate.Rules() {
		names = append(names, string(r.Condition))
	}
	return names
}

func kinds() []string {
	var names []string
	for _, k := range correlate.Kinds() {
		names = append(names, string(k))
	}
	return names
}

// check applies the check of a tag to a value that is not empty.
func check(name, s string) *wrong {
	if t, ok := texts[name]; ok {
		return t.check(s)
	}
	allowed, ok := words[name]
	condition := name == "condition" || name == "filter-condition"
	switch {
	case !ok || slices.Contains(allowed, s) || condition && correlate.Condition(s).Foreign() && checkName(s) == nil:
		return nil
	case slices.Contains(laterWords[name], s):
		return &wrong{fmt.Sprintf("%q is not yet built", s), "write one of: " + strings.Join(allowed, ", ")}
	}
	remedy := "write one of: " + strings.Join(allowed, ", ")
	if condition { // a page of them
		remedy = "docs/alarms.md has those that there are"
	}
	if near := nearest(s, allowed); near != "" {
		remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
	}
	return &wrong{fmt.Sprintf("%q is not possible here", s), remedy}
}

func checkName(s string) *wrong {
	bad := strings.IndexFunc(s, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
	})
	if bad >= 0 || len(s) > 253 {
		return &wrong{fmt.Sprintf("%s is not a name", strconv.Quote(s)), "use up to 253 letters, digits, dots, dashes and underscores"}
	}
	return nil
}

func checkText(s string) *wrong {
	if strings.TrimSpace(s) == "" || len(s) > 1000 || strings.ContainsFunc(s, unicode.IsControl) {
		return &wrong{fmt.Sprintf("%s is not a text of one line", strconv.Quote(s)), "write up to 1000 bytes without control characters"}
	}
	return nil
}

func checkPath(s string) *wrong {
	if !path.IsAbs(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return &wrong{fmt.Sprintf("%s is not an absolute path", strconv.Quote(s)), "begin it with /"}
	}
	return nil
}

func checkGlob(s string) *wrong {
	if _, err := path.Match(s, ""); err != nil {
		return &wrong{fmt.Sprintf("%q is not a glob", s), "close every [ with ], and put something behind a \\"}
	}
	return nil
}

func checkExpression(s string) *wrong {
	if _, err := regexp.Compile(s); err != nil {
		return &wrong{fmt.Sprintf("%q is not a regular expression: %v", s, err), "write one of Go's (RE2) syntax; quote it with ' in YAML"}
	}
	return nil
}

func checkResourceGlob(s string) *wrong {
	if wrong := checkGlob(s); wrong != nil {
		return wrong
	}
	kind, _, ok := strings.Cut(s, "/")
	if s == "*" || ok && (strings.ContainsAny(kind, `*?[\`) || slices.Contains(kinds(), kind)) {
		return nil
	}
	remedy := "write kind/name, for instance nic/*; kinds are: " + strings.Join(kinds(), ", ")
	if near := nearest(kind, kinds()); near != "" && near != kind {
		remedy = fmt.Sprintf("did you mean %q? %s", near+strings.TrimPrefix(s, kind), remedy)
	}
	return &wrong{fmt.Sprintf("%q matches no resource", s), remedy}
}

func checkUUID(s string) *wrong {
	id, err := uuid.Parse(s)
	if err != nil {
		return &wrong{fmt.Sprintf("%q is not a UUID", s), "write it as virsh domuuid prints it"}
	}
	if id.String() != s {
		return &wrong{fmt.Sprintf("%q is not a UUID as libvirt writes it", s), "write " + id.String()}
	}
	return nil
}

func checkURL(s string) *wrong {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return &wrong{fmt.Sprintf("%q is not a URL", s), "write it as http://host:port/path"}
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return &wrong{fmt.Sprintf("%q is not an http or https URL", s), "write it as http://host:port/path"}
	case u.User != nil:
		return &wrong{"a URL must not hold a user or a password: it is shown in many places", "write auth: {basic: {user: …, password_file: …}} instead"}
	case u.Fragment != "":
		return &wrong{fmt.Sprintf("%q has a fragment, which is never sent", s), "remove #" + u.Fragment}
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return &wrong{fmt.Sprintf("%q has no valid port", s), "write a port from 1 to 65535"}
		}
	}
	return nil
}

func checkUser(s string) *wrong {
	if bad := checkText(s); bad != nil {
		return bad
	}
	if len(s) > 256 || strings.Contains(s, ":") {
		return &wrong{fmt.Sprintf("%s is not a user", strconv.Quote(s)), "write up to 256 bytes without a colon"}
	}
	return nil
}

// checkProxyURL never repeats what it is given, since people write passwords there.
func checkProxyURL(s string) *wrong {
	const remedy = "write it as http://proxy.example:3128"
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" || u.Hostname() == "":
		return &wrong{"it is not an http URL", remedy}
	case u.User != nil:
		return &wrong{"a URL must not hold a user or a password: it is shown in many places", "write user and password_file beside it"}
	case u.Port() == "":
		return &wrong{"it has no port", remedy}
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return &wrong{"a proxy has no path", remedy}
	}
	if n, err := strconv.Atoi(u.Port()); err != nil || n < 1 || n > 65535 {
		return &wrong{"it has no valid port", "write a port from 1 to 65535"}
	}
	return nil
}

func checkLibvirtURI(s string) *wrong {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme == "" || u.Path == "":
		return &wrong{fmt.Sprintf("%q is not a libvirt URI", s), "write qemu:///system"}
	case u.Host != "" || strings.Contains(u.Scheme, "+"):
		return &wrong{fmt.Sprintf("%q leads to another host", s), "run paramedic on that host, and write qemu:///system here"}
	}
	return nil
}

// unknownKey says why a key does not belong here.
func unknownKey(t reflect.Type, path, key string) (message, remedy string) {
	full := strconv.Quote(join(path, key))
	if slices.Contains(laterKeys[anyElement(path)], key) {
		return full + " is not yet built", "remove it"
	}
	var known []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "-" {
			known = append(known, name)
		}
	}
	remedy = "known here: " + strings.Join(known, ", ")
	if near := nearest(key, known); near != "" {
		remedy = fmt.Sprintf("did you mean %q? %s", near, remedy)
	}
	for _, secret := range []string{"secret", "password", "token"} {
		if key == secret {
			remedy = fmt.Sprintf("secrets are only read from files: write it into one and name that in %s_file", secret)
		}
	}
	return "unknown key " + full, remedy
}

// anyElement replaces the indices of a path by *.
func anyElement(path string) string {
	var b strings.Builder
	for i, part := range strings.Split(path, "[") {
		if i > 0 {
			_, part, _ = strings.Cut(part, "]")
			part = "[*]" + part
		}
		b.WriteString(part)
	}
	return b.String()
}

// nearest is the candidate that a typing mistake may have meant, or "".
func nearest(s string, candidates []string) string {
	if len(s) > 64 {
		return ""
	}
	best, distance := "", max(2, len(s)/3)+1
	for _, c := range candidates {
		if d := levenshtein(strings.ToLower(s), c); d < distance {
			best, distance = c, d
		}
	}
	return best
}

func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// across checks what one value alone does not tell.
func (p *parser) across(cfg *Config) {
	p.acrossCluster(cfg)
	p.acrossAPI(cfg)
	names := make(map[string]string)
	for i := range cfg.Notify.Subscriptions {
		s := &cfg.Notify.Subscriptions[i]
		at := fmt.Sprintf("notify.subscriptions[%d]", i)
		if n := p.at[at]; n == nil || n.Kind != yaml.MappingNode {
			continue // said already
		}
		if first, again := names[s.Name]; again && s.Name != "" {
			p.add(at+".name", fmt.Sprintf("subscription %q is given twice, first in line %d", s.Name, p.at[first].Line),
				"give it another name")
		} else {
			names[s.Name] = at + ".name"
		}
		if len(s.Endpoints) == 0 && (p.at[at+".endpoints"] == nil || len(p.at[at+".endpoints"].Content) == 0) {
			p.add(at+".endpoints", "a subscription needs at least one endpoint", "write endpoints: [\"http://host:port/path\"]")
		}
		for j, e := range s.Endpoints {
			addr, ok := notify.LiteralCallback(e)
			if !ok {
				continue
			}
			if err := notify.CheckCallback(cfg.Notify.AllowCallbacks, addr); err != nil {
				p.add(fmt.Sprintf("%s.endpoints[%d]", at, j), err.Error(), "add its network there")
			}
		}
		p.acrossLink(at, s)
		if s.Role == "consumer" && len(s.Filter.Projects) == 0 {
			p.add(at+".role", "a consumer sees its own projects' resources only, and none is named", "write filter: {projects: […]}, or role: admin")
		}
	}
	// What notify would refuse is refused here, where the place is known; its checks are wider than those above.
	for i := range cfg.Notify.Subscriptions {
		if len(p.probs) > 0 {
			break
		}
		p.refused(fmt.Sprintf("notify.subscriptions[%d].", i), cfg.Notify.Subscriptions[i].subscription(cfg.Cluster.Label).Validate())
	}
	if proxy := cfg.Notify.Proxy; proxy.URL == "" && p.at["notify.proxy.url"] == nil && (proxy.User != "" || proxy.PasswordFile != "") {
		p.add("notify.proxy", "there is no proxy that could ask for a user", "write url: http://proxy.example:3128")
	}
	p.both("notify.proxy", "user", cfg.Notify.Proxy.User, "password_file", cfg.Notify.Proxy.PasswordFile)
	virt := cfg.HW.Virt
	if u, err := url.Parse(virt.URI); err == nil && u.Path == "/session" && virt.Socket == "" && p.at["hw.virt.uri"] != nil {
		p.add("hw.virt.uri", fmt.Sprintf("%q is one user's libvirt, whose socket is not known", virt.URI),
			"write its socket as hw.virt.socket, or qemu:///system here")
	}
	for _, m := range []struct {
		at, holds string
		path      MetadataPath
	}{
		{"hw.virt.owners.metadata", "project", virt.Owners.Metadata},
		{"hw.virt.vnfs.metadata", "VNF instance", virt.VNFs.Metadata},
		{"hw.virt.vnfs.vnfc", "VNF component", virt.VNFs.VNFC},
	} {
		if m.path.Namespace != "" && m.path.Element == "" {
			p.add(m.at, "a namespace alone names no element", "write element: and the local name of the one that holds the "+m.holds)
		}
	}
	if e, err := regexp.Compile(virt.VNFs.Expression); err == nil && e.NumSubexp() == 0 && virt.VNFs.Expression != "" {
		p.add("hw.virt.vnfs.expression", "it has no group", "put what is the VNF instance in parentheses")
	}
	p.acrossEvents(cfg)
	for i, policy := range cfg.Correlate.Policies {
		if policy.Severity == "" && policy.HoldDown == nil {
			at := fmt.Sprintf("correlate.policies[%d]", i)
			if p.at[at+".severity"] == nil && p.at[at+".hold_down"] == nil {
				p.add(at, "this policy changes nothing", "write severity, hold_down or both")
			}
		}
	}
}

// refused adds each problem that notify has found, "field: what is wrong", at its field.
func (p *parser) refused(at string, err error) {
	problems := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		problems = joined.Unwrap()
	}
	for _, problem := range problems {
		if problem != nil {
			field, _, _ := strings.Cut(problem.Error(), ": ")
			p.add(at+field, problem.Error(), "")
		}
	}
}

// acrossEvents checks the mappings of other monitors' events.
// acrossLink looks at how the requests of a subscription leave.
func (p *parser) acrossLink(at string, s *Subscription) {
	p.both(at+".tls", "cert_file", s.TLS.CertFile, "key_file", s.TLS.KeyFile)
	p.both(at+".auth.basic", "user", s.Auth.Basic.User, "password_file", s.Auth.Basic.PasswordFile)
	if s.Auth.Basic != (BasicAuth{}) && s.Auth.Bearer != (BearerAuth{}) {
		p.add(at+".auth", "there is a user and a token, and a request has one Authorization header", "remove basic or bearer")
	}
	if s.TLS != (SubscriptionTLS{}) && len(s.Endpoints) > 0 && !slices.ContainsFunc(s.Endpoints, func(e string) bool { return strings.HasPrefix(strings.ToLower(e), "https:") }) {
		p.add(at+".tls", "no endpoint is https", "write https endpoints, or remove tls")
	}
}

// both says that of two keys of a mapping one is there alone.
func (p *parser) both(at, first, value, second, other string) {
	switch {
	case value != "" && other == "":
		p.add(at+"."+first, fmt.Sprintf("%s without %s", first, second), fmt.Sprintf("write %s: …, or remove %s", second, first))
	case value == "" && other != "":
		p.add(at+"."+second, fmt.Sprintf("%s without %s", second, first), fmt.Sprintf("write %s: …, or remove %s", first, second))
	}
}

func (p *parser) acrossEvents(cfg *Config) {
	types := make(map[string]int)
	rules := make(map[correlate.Condition]int)
	mappings := cfg.Mappings()
	for i, m := range mappings {
		at := fmt.Sprintf("correlate.events[%d]", i)
		if first, again := types[m.Type]; again && m.Type != "" {
			p.add(at+".type", fmt.Sprintf("type %q is given twice, first in line %d", m.Type, p.at[fmt.Sprintf("correlate.events[%d]", first)].Line),
				"remove one of them")
			continue
		}
		types[m.Type] = i
		if m.Resource != "" {
			if err := southbound.CheckTemplate(m.Resource); err != nil {
				p.add(at+".resource", fmt.Sprintf("%q names no resource: %v", m.Resource, err), "write for instance nic/{source}")
			}
		}
		c := m.Rule.Condition
		if !c.Foreign() {
			p.add(at+".condition", fmt.Sprintf("%q has no dot, and may be a condition of paramedic itself", c), fmt.Sprintf("write monitor.%s", c))
		}
		if first, again := rules[c]; again && mappings[first].Rule != m.Rule {
			p.add(at, fmt.Sprintf("condition %q has other properties in line %d", c, p.at[fmt.Sprintf("correlate.events[%d]", first)].Line),
				"write the same severity, state, event_type, probable_cause and expires in both, or another condition")
		} else if !again {
			rules[c] = i
		}
	}
}
