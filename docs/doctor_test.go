package docs

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// doctor are the information elements and messages of OPNFV Doctor's requirements (chapter "Information elements", "Detailed
// northbound interface specification", "Fault event interface"), under the names that they have there.
var doctor = map[string][]string{
	"VirtualResourceInfo":   {"VirtualResourceID", "VirtualResourceState", "Faults"},
	"Fault":                 {"FaultID", "FaultType", "Severity", "EventTime", "ProbableCause", "isRootCause", "CorrelatedFaultID", "FaultDetails"},
	"SubscribeFilter":       {"VirtualResourceType", "VirtualResourceID", "VirtualResourceState", "FaultType", "MinSeverity"},
	"FaultQueryFilter":      {"VirtualResourceType", "VirtualResourceID", "FaultType", "MinSeverity", "EventStartTime", "EventEndTime"},
	"PhysicalResourceState": {"PhysicalResourceID", "PhysicalResourceState", "Metadata"},
	"PhysicalResourceInfo":  {"PhysicalResourceID", "PhysicalResourceState", "FirmwareVersion", "HypervisorVersion", "ZoneID", "Metadata"},
	"StateQueryFilter":      {"PhysicalResourceID", "PhysicalResourceState", "ZoneID"},
	"Messages to and from a consumer": {
		"SubscribeRequest", "SubscribeFilter", "SubscribeResponse", "SubscriptionID", "FaultNotification", "NotificationID",
		"FaultQueryRequest", "FaultQueryFilter", "FaultQueryResponse", "MaintenanceNotification",
	},
	"Messages to and from an administrator": {
		"StateQueryRequest", "StateQueryFilter", "StateQueryResponse", "StateChangeRequest", "StateChangeResponse",
		"MaintenanceRequest", "MaintenanceResponse", "NACK",
	},
	"Events of monitors": {
		"time", "type", "details", "hostname", "source", "cause", "severity", "status", "monitor_id", "monitor_event_id", "RelatedTo",
	},
}

var (
	call     = regexp.MustCompile(`^(GET|POST|PUT|PATCH|DELETE) (/[^?]+)(?:\?(\w+)=)?$`)
	code     = regexp.MustCompile("`([^`]+)`")
	captured = regexp.MustCompile("(?s)<!-- captured: native -->\n```http\n(.*?)\n\n(.*?)```")
)

// TestEveryElementOfDoctorIsSomewhere: each has a row, and what the row names is in the API's description or in the request that
// the page shows (which another test captures); what it calls reserved is in neither.
func TestEveryElementOfDoctorIsSomewhere(t *testing.T) {
	page, err := os.ReadFile("consumers.md")
	if err != nil {
		t.Fatal(err)
	}
	known := readKnown(t, page)
	_, section, _ := strings.Cut(string(page), "## What OPNFV Doctor asked for\n")
	section, _, _ = strings.Cut(section, "\n## ")
	rows := map[string][]string{}
	group := ""
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) < 2 || !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| element") {
			continue
		}
		element, ours := strings.TrimSpace(cells[0]), strings.TrimSpace(cells[1])
		if strings.HasPrefix(element, "**") {
			group = strings.Trim(element, "*")
			continue
		}
		rows[group] = append(rows[group], element)
		names := code.FindAllStringSubmatch(ours, -1)
		if len(names) == 0 {
			t.Errorf("%s, %s: it is nowhere", group, element)
		}
		reserved := strings.HasPrefix(ours, "not built: ")
		for _, name := range names {
			if err := known.find(name[1]); (err != nil) != reserved {
				t.Errorf("%s, %s: %v (reserved: %v)", group, element, err, reserved)
			}
		}
	}
	for group, want := range doctor {
		if !slices.Equal(rows[group], want) {
			t.Errorf("%s has rows for\n%v, want\n%v", group, rows[group], want)
		}
	}
	if len(rows) != len(doctor) {
		t.Errorf("%d groups, want %d", len(rows), len(doctor))
	}
}

// sources are what names in the table are looked up in.
type sources struct {
	api struct {
		Paths map[string]map[string]struct {
			Parameters []parameter
		}
		Components struct {
			Schemas    map[string]schema
			Parameters map[string]parameter
		}
	}
	headers string
	body    map[string]any
}

type parameter struct {
	Name string
	Ref  string `yaml:"$ref"`
}

type schema struct {
	Properties map[string]schema
	Ref        string `yaml:"$ref"`
}

func readKnown(t *testing.T, page []byte) *sources {
	t.Helper()
	var s sources
	text, err := os.ReadFile("api/openapi.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &s.api)
	}
	if err != nil {
		t.Fatal(err)
	}
	parts := captured.FindSubmatch(page)
	if parts == nil {
		t.Fatal("the page shows no native request")
	}
	s.headers = string(parts[1])
	if err := json.Unmarshal(parts[2], &s.body); err != nil {
		t.Fatal(err)
	}
	return &s
}

// find says why there is no such call, member of a schema, member of the captured body, or header.
func (s *sources) find(name string) error {
	if m := call.FindStringSubmatch(name); m != nil {
		operation, ok := s.api.Paths[m[2]][strings.ToLower(m[1])]
		if !ok {
			return fmt.Errorf("there is no call %s", name)
		}
		if m[3] != "" && !slices.ContainsFunc(operation.Parameters, func(p parameter) bool {
			if of, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
				p = s.api.Components.Parameters[of]
			}
			return p.Name == m[3]
		}) {
			return fmt.Errorf("%s: there is no such parameter", name)
		}
		return nil
	}
	path := strings.Split(name, ".")
	if of, ok := s.api.Components.Schemas[path[0]]; ok {
		for _, member := range path[1:] {
			if of, ok = of.Properties[member]; !ok {
				return fmt.Errorf("%s: the schema has no %s", name, member)
			}
			if ref, referred := strings.CutPrefix(of.Ref, "#/components/schemas/"); referred {
				of = s.api.Components.Schemas[ref]
			}
		}
		return nil
	}
	if strings.Contains(s.headers, "\n"+name+": ") {
		return nil
	}
	var at any = s.body
	for _, member := range path {
		member, list := strings.CutSuffix(member, "[]")
		object, _ := at.(map[string]any)
		at = object[member]
		if all, ok := at.([]any); ok && list && len(all) > 0 {
			at = all[0]
		}
		if at == nil {
			return fmt.Errorf("%s: the notification has no %s", name, member)
		}
	}
	return nil
}
