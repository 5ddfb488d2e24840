// Package format writes notifications in the forms that consumers speak, one file a form.
package format

import (
	"cmp"
	"slices"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// Form is one wire format. Its functions are pure: the same fault gives the same bytes whoever writes them, but for what
// Native says.
type Form struct {
	Name string // as a subscription names it
	Type string // the content type of its bodies
	// Challenged forms have their callbacks verified by a message that must be echoed; of others nothing can be asked.
	Challenged bool
	// Parts are what a fault speaks of, by ID, each with a digest of what is shown of it; of a cleared one what it may have
	// spoken of last. Nil: the form says all in one message.
	Parts func(Fault) []delivery.Part
	// Fault writes a notification; of a form with Parts, of Fault.Ask.
	Fault func(Fault) ([]byte, error)
	// Message writes what is not about an alarm: a test, and a verification when Challenged.
	Message func(Message) ([]byte, error)
	// Header are those that the form wants beside the ones that every request has; nil: none.
	Header func(id string) map[string]string
}

// Default is the name of the form of whoever names none.
const Default = "native"

var forms = []Form{native, aodh}

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

// byID puts parts into the order that delivery wants.
func byID(parts []delivery.Part) []delivery.Part {
	slices.SortFunc(parts, func(a, b delivery.Part) int { return cmp.Compare(a.ID, b.ID) })
	return parts
}
