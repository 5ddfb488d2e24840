// Package format writes notifications in the forms that consumers speak, one file a form.
package format

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Form is one wire format. Its functions are pure: the same fault gives the same bytes whoever writes them, but for what
// Native says.
type Form struct {
	Name         string // as a subscription names it
	Type         string // the content type of its bodies
	Verification Verification
	// Parts are what a fault speaks of, by ID, each with a digest of what is shown of it; of a cleared one what it may have
	// spoken of last. Nil: the form says all in one message.
	Parts func(Fault) []delivery.Part
	// Each says that each part has a message of its own; else one has all of Fault.Asks.
	Each bool
	// Apart says that the end of a fault for a part shows nothing of other faults that hit it (delivery.Ask.Still).
	Apart bool
	// Repeat is how long after it was told a standing alarm must be told again; zero: never.
	Repeat time.Duration
	// Path is where its receivers listen: an endpoint without a path is a mistake. Empty: anywhere.
	Path string
	// Fault writes a notification; of a form with Parts, of Fault.Asks.
	Fault func(Fault) ([]byte, error)
	// Message writes what is not about an alarm: a test, a verification when it is one that is echoed, when Beats a heartbeat, and when
	// Rebuilds that the list of alarms was rebuilt.
	Message func(Message) ([]byte, error)
	// Rebuilds: its consumers keep a list of alarms and have to hear when they should read it anew.
	Rebuilds bool
	// Beats: Message can say that all is watched.
	Beats bool
	// Header are those that the form wants beside the ones that every request has; nil: none.
	Header func(id string) map[string]string
}

// Verification is how a callback proves that it wants a subscription.
type Verification int

// VerifyNothing: nothing can be asked of it. VerifyEcho: it echoes a message, or takes part in the handshake of CloudEvents.
// VerifyGet: it answers a GET with 204.
const (
	VerifyNothing Verification = iota
	VerifyEcho
	VerifyGet
)

// Default is the name of the form of whoever names none.
const Default = "native"

var forms = []Form{native, aodh, alertmanager, sol}

// Of returns the form of a name.
func Of(name string) (Form, bool) {
	i := slices.IndexFunc(forms, func(f Form) bool { return f.Name == name })
	if i < 0 {
		return Form{}, false
	}
	return forms[i], true
}

// Names are those of all forms; the default is the first.
func Names() []string {
	names := make([]string, len(forms))
	for i, f := range forms {
		names[i] = f.Name
	}
	return names
}

// Beating are the names of those that have a heartbeat.
func Beating() []string {
	var names []string
	for _, f := range forms {
		if f.Beats {
			names = append(names, f.Name)
		}
	}
	return names
}

// encode writes a body.
func encode(id string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("write notification %s: %w", id, err)
	}
	return body, nil
}

// digest is of what a part shows; never zero.
func digest(shown []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(shown)
	return max(1, h.Sum64())
}

// machine is an affected one; of one that is no longer affected what is still known of it.
func (f Fault) machine(id correlate.ID, project string) correlate.Affected {
	for _, d := range f.Affected {
		if d.Resource == id {
			return d
		}
	}
	return correlate.Affected{Resource: id, Project: project}
}

// partAlarm is the id, a UUID, of the alarm that one part of a fault is in a form whose alarms are about one thing each: whoever tells
// of it, and of its end.
func partAlarm(alarm, part string) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(alarm+"\x00"+part)).String()
}

// byID puts parts into the order that delivery wants.
func byID(parts []delivery.Part) []delivery.Part {
	slices.SortFunc(parts, func(a, b delivery.Part) int { return cmp.Compare(a.ID, b.ID) })
	return parts
}
