package host

import (
	"bytes"
	"context"
	"strings"

	"github.com/paramedic-ha/paramedic/hw"
)

// listen prompts the source at each uevent that is of its business.
func (s *Source) listen(ctx context.Context) error {
	return hw.Uevents(ctx, func(message []byte) {
		switch {
		case message == nil: // some were lost: whose is not known
			s.prompt.Give()
		case ours(message):
			s.counters.uevents.Add(1)
			s.prompt.Give()
		}
	})
}

// ours says whether an event is of what this source reads: a processor, a sensor that went over a limit, an error of a PCI
// device (drivers/pci/pci-driver.c: pci_uevent_ers).
func ours(message []byte) bool {
	head, rest, _ := bytes.Cut(message, []byte{0})
	action, path, ok := strings.Cut(string(head), "@")
	switch {
	case !ok:
		return false
	case strings.HasPrefix(path, "/devices/system/cpu/"):
		return true
	case action == "change" && strings.Contains(path, "/hwmon/"):
		return true
	case action == "change" && strings.HasPrefix(path, "/devices/pci"):
		return bytes.Contains(rest, []byte("ERROR_EVENT="))
	}
	return false
}
