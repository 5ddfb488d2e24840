package southbound

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/paramedic-ha/paramedic/correlate"
)

// What one body may hold.
const (
	MaxItems   = 1000
	maxName    = 253  // bytes of a type, a host's, monitor's or resource's name, an id
	maxText    = 1000 // bytes of any other value; longer ones are cut
	maxDetails = 32   // values beside those that have a meaning here; further ones are dropped
)

// Item is one event as a monitor sent it. Wrong, when set, says why it can't be understood, and the remedy.
type Item struct {
	Type     string
	Time     time.Time // zero: not given
	Hostname string    // empty: not given
	Resource string    // a resource id, when the monitor knows ours; empty: the mapping says which
	Cause    string    // for people
	Severity correlate.Severity
	Up       bool // the condition is over
	Monitor  string
	EventID  string            // empty: nobody can tell whether it is a duplicate
	Details  map[string]string // everything that was sent but the time and the type, by its name there
	Wrong    error             `json:"-"`
}

// ErrBody is wrapped by the errors of Decode: nothing of the body can be understood. The text names the remedy.
var ErrBody = errors.New("the body holds no events")

// ErrTooMany is wrapped when a body holds more than MaxItems.
var ErrTooMany = errors.New("the body holds too many events")

func noEvents(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBody}, args...)...)
}

// Decode reads a body: one event, a list of them, {"event": …}, {"events": […]}, or an Alertmanager's webhook. An item
// that can't be understood is no error: its Wrong says why.
func Decode(body []byte) ([]Item, error) {
	var items []Item
	switch body = bytes.TrimSpace(body); {
	case len(body) == 0:
		return nil, noEvents("it is empty: send JSON")
	case body[0] == '[':
		return decodeList(body, fromEvent)
	case body[0] != '{':
		return nil, noEvents("want a JSON object or a list of them")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, noEvents("it is not JSON: %v", err)
	}
	switch _, typed := members["type"]; {
	case members["alerts"] != nil && !typed:
		return decodeList(members["alerts"], fromAlert)
	case members["events"] != nil && !typed:
		return decodeList(members["events"], fromEvent)
	case members["event"] != nil && !typed:
		return append(items, fromEvent(members["event"])), nil
	}
	return append(items, fromEvent(body)), nil
}

func decodeList(text json.RawMessage, from func(json.RawMessage) Item) ([]Item, error) {
	var all []json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, noEvents("want a list of JSON objects: %v", err)
	}
	switch {
	case len(all) > MaxItems:
		return nil, fmt.Errorf("%w: %d, and at most %d are taken at once: send several bodies", ErrTooMany, len(all), MaxItems)
	case len(all) == 0:
		return nil, noEvents("the list is empty: leave the request out")
	}
	items := make([]Item, len(all))
	for i, text := range all {
		items[i] = from(text)
	}
	return items, nil
}

// fromEvent reads one event of Doctor's interface. What stands beside details, as the oldest monitors have it, is taken as
// if it stood in them.
func fromEvent(text json.RawMessage) Item {
	var in map[string]any
	if err := unmarshal(text, &in); err != nil || in == nil {
		return Item{Wrong: errors.New(`the event is no JSON object: send {"time":…,"type":…,"details":{…}}`)}
	}
	details := make(map[string]string)
	switch given := in["details"].(type) {
	case map[string]any:
		flatten(details, given)
	case nil:
	default:
		return Item{Wrong: errors.New("details is no JSON object: send names and values")}
	}
	for _, name := range []string{"time", "type"} {
		if _, isText := in[name].(string); !isText && in[name] != nil {
			return Item{Details: details, Wrong: fmt.Errorf("%s is no string: send one", name)}
		}
	}
	typ, _ := in["type"].(string)
	at, _ := in["time"].(string)
	delete(in, "details")
	delete(in, "type")
	delete(in, "time")
	flatten(details, in)

	item := Item{
		Type: typ, Details: details,
		Hostname: details["hostname"], Resource: details["resource"],
		Cause:   first(details, "cause", "text", "message", "description"),
		Monitor: first(details, "monitor", "monitor_id"),
		EventID: first(details, "monitor_event_id", "id"),
	}
	var err error
	if item.Time, err = parseTime(at); err != nil {
		item.Wrong = err
		return item
	}
	item.Severity = severityOf(details["severity"])
	switch status := strings.ToLower(details["status"]); {
	case status == "down", status == "" && item.Severity != correlate.SeverityCleared:
	case status == "up", status == "":
		item.Up = true
	default:
		item.Wrong = fmt.Errorf("status %q: want down, or up when it is over", details["status"])
		return item
	}
	item.check()
	return item
}

// fromAlert reads one alert of an Alertmanager's webhook. It has no event id: an Alertmanager repeats what goes on, and
// says when it is over.
func fromAlert(text json.RawMessage) Item {
	var in struct {
		Status              string
		Labels, Annotations map[string]string
		StartsAt, EndsAt    string
		Fingerprint         string
		GeneratorURL        string
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return Item{Monitor: "alertmanager", Wrong: fmt.Errorf("the alert is not one of Alertmanager's webhook, version 4: %w", err)}
	}
	details := make(map[string]string)
	labels := make(map[string]any, len(in.Labels))
	for name, value := range in.Labels {
		labels[name] = value
	}
	flatten(details, labels)
	flatten(details, map[string]any{"fingerprint": in.Fingerprint, "generator_url": in.GeneratorURL})

	item := Item{
		Type: in.Labels["alertname"], Details: details, Monitor: "alertmanager",
		Hostname: first(details, "hostname", "host", "node", "nodename"),
		Cause:    first(in.Annotations, "summary", "description", "message"),
		Severity: severityOf(in.Labels["severity"]),
		Up:       in.Status == "resolved",
	}
	if item.Hostname == "" {
		item.Hostname = details["instance"]
		if host, _, err := net.SplitHostPort(item.Hostname); err == nil {
			item.Hostname = host
		}
	}
	if _, err := correlate.ParseID(details["resource"]); err == nil { // else a label that means something else
		item.Resource = details["resource"]
	}
	at := in.StartsAt
	switch in.Status {
	case "firing":
	case "resolved":
		at = in.EndsAt
	default:
		item.Wrong = fmt.Errorf("status %q: want firing or resolved", in.Status)
		return item
	}
	if item.Time, item.Wrong = parseTime(at); item.Wrong == nil {
		item.check()
	}
	return item
}

// Check judges an item that did not come from Decode: it sets Wrong.
func (i *Item) Check() {
	if i.Wrong = nil; i.Severity > correlate.SeverityCritical {
		i.Severity = correlate.SeverityUnset
	}
	if i.Time.Before(oldest) {
		i.Time = time.Time{}
	}
	i.check()
}

// check judges what is text.
func (i *Item) check() {
	if i.Severity == correlate.SeverityCleared {
		i.Severity = correlate.SeverityUnset
	}
	i.Cause = oneLine(i.Cause)
	switch {
	case i.Type == "":
		i.Wrong = errors.New(`the type is missing: send one, for instance "compute.host.down"`)
		return
	case i.Hostname == "" && i.Monitor == "alertmanager":
		i.Wrong = errors.New("no label names the host: add one called hostname, with the host's node.name")
		return
	}
	for _, named := range []struct{ what, value string }{
		{"type", i.Type},
		{"hostname", i.Hostname},
		{"resource", i.Resource},
		{"monitor", i.Monitor},
		{"monitor_event_id", i.EventID},
	} {
		if len(named.value) > maxName || strings.ContainsFunc(named.value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			i.Wrong = fmt.Errorf("%s: want at most %d bytes of printable text", named.what, maxName)
			return
		}
	}
}

// severityOf takes the words of X.733 in any case. Other words say nothing here: the mapping has the severity.
func severityOf(word string) correlate.Severity {
	s, err := correlate.ParseSeverity(strings.ToLower(word))
	if err != nil {
		return correlate.SeverityUnset
	}
	return s
}

// layouts are RFC 3339, the same without a zone, and both with a space in the place of the T. A fraction is taken by all.
var layouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05"}

// oldest is what a clock that was ever set can't show. Alertmanager writes such a time for one that has not come.
var oldest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// parseTime takes a time without a zone for UTC. An empty text, or a time of a clock that was never set, is the zero time.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			if t.Before(oldest) {
				return time.Time{}, nil
			}
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("time %q: want RFC 3339, for instance 2026-11-22T17:10:18.343Z; without a zone it is taken for UTC", cut(text, 64))
}

// flatten adds the values as text, but those whose name is there already.
func flatten(to map[string]string, values map[string]any) {
	for name, value := range values {
		if _, there := to[name]; there || value == nil || len(name) > maxName {
			continue
		}
		text, isText := value.(string)
		if !isText {
			if b, err := json.Marshal(value); err == nil {
				text = string(b)
			}
		}
		if text != "" {
			to[name] = cut(text, maxText)
		}
	}
}

// cut shortens a text to at most n bytes, at the end of a character.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// oneLine has no control characters.
func oneLine(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text))
}

func first(values map[string]string, names ...string) string {
	for _, name := range names {
		if v := values[name]; v != "" {
			return v
		}
	}
	return ""
}

// unmarshal keeps numbers as they are written.
func unmarshal(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return d.Decode(v)
}
