package southbound

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// Mapping says what the events of one type mean on this host.
type Mapping struct {
	Type string
	// Resource is a resource id in which {name} stands for what the event says under that name, for instance
	// nic/{source}. Empty: the host.
	Resource string
	// Rule is that of the condition. Its Condition is ConditionOf(Type) when empty; two mappings to one condition have one rule.
	Rule correlate.Rule
}

// Known are the types that appear in Doctor's requirements. Other mappings of the same types replace them.
func Known() []Mapping {
	return []Mapping{
		{
			Type: "compute.host.down",
			Rule: correlate.Rule{
				State: correlate.StateFailed, Severity: correlate.SeverityCritical,
				EventType: correlate.TypeEquipment, ProbableCause: "out-of-service", AbstractCause: correlate.CauseCompute,
				Text: "another monitor says that the host is down",
			},
		},
		{
			Type: "compute.host.nic.error", Resource: "nic/{source}",
			Rule: correlate.Rule{
				State: correlate.StateFailed, Severity: correlate.SeverityCritical, Absorbed: correlate.SeverityWarning,
				EventType: correlate.TypeCommunications, ProbableCause: "adaptor-error",
				Text: "another monitor says that the link has failed",
			},
		},
		{
			Type: "compute.cpu.failure",
			Rule: correlate.Rule{
				State: correlate.StateFailed, Severity: correlate.SeverityCritical,
				EventType: correlate.TypeEquipment, ProbableCause: "processor-problem", AbstractCause: correlate.CauseCompute,
				Text: "another monitor says that a processor of the host has failed",
			},
		},
	}
}

// ConditionOf is the condition that a type stands for unless a mapping says otherwise: the type itself as far as it is
// letters, digits, dots, dashes and underscores, with a dash for each other stretch, and "monitor." before one without a dot.
func ConditionOf(typ string) correlate.Condition {
	var b strings.Builder
	dash := false
	for _, r := range typ {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			b.WriteRune(r)
			dash = false
		} else if !dash {
			b.WriteByte('-')
			dash = true
		}
	}
	c := correlate.Condition(b.String())
	if !c.Foreign() {
		c = "monitor." + c
	}
	return c
}

// table is the mappings by type, and Known behind them.
func table(mappings []Mapping) map[string]Mapping {
	byType := make(map[string]Mapping)
	for _, m := range complete(slices.Concat(Known(), mappings)) {
		byType[m.Type] = m
	}
	return byType
}

// complete sets what all mappings have.
func complete(mappings []Mapping) []Mapping {
	for i := range mappings {
		r := &mappings[i].Rule
		if r.Condition == "" {
			r.Condition = ConditionOf(mappings[i].Type)
		}
		r.AckClears = true // many monitors never say that it is over
	}
	return mappings
}

// Rules are those of the conditions that the mappings and Known lead to.
func Rules(mappings []Mapping) []correlate.Rule {
	var rules []correlate.Rule
	for _, m := range complete(slices.Concat(mappings, Known())) { // the first of a condition has it
		if !slices.ContainsFunc(rules, func(r correlate.Rule) bool { return r.Condition == m.Rule.Condition }) {
			rules = append(rules, m.Rule)
		}
	}
	return rules
}

// CheckTemplate says what is wrong with a Mapping's Resource.
func CheckTemplate(template string) error {
	kind, _, _ := strings.Cut(template, "/")
	if strings.ContainsAny(kind, "{}") {
		return errors.New("its kind must be written out, as in nic/{source}")
	}
	if kind == string(correlate.KindZone) {
		return errors.New("a zone is no resource of this host")
	}
	id, err := fill(template, func(string) string { return "x" })
	if err == nil {
		_, err = correlate.ParseID(id)
	}
	return err
}

// fill puts values into a template; what is empty is missing.
func fill(template string, value func(name string) string) (string, error) {
	var b strings.Builder
	for rest := template; rest != ""; {
		text, behind, found := strings.Cut(rest, "{")
		if strings.Contains(text, "}") {
			return "", fmt.Errorf("in %q a } has no { before it", template)
		}
		b.WriteString(text)
		if !found {
			break
		}
		name, after, closed := strings.Cut(behind, "}")
		if !closed || name == "" || strings.Contains(name, "{") {
			return "", fmt.Errorf("in %q a { is not followed by a name and a }", template)
		}
		v := value(name)
		if v == "" {
			return "", fmt.Errorf("%q is missing, which names the resource (%s): send it in details, or send resource with a resource id", name, template)
		}
		b.WriteString(v)
		rest = after
	}
	return b.String(), nil
}
