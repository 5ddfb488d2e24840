package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// silence is how long a drive may take to say how it is. Our commands leave it the kernel's own limits (30 s and more): a shorter one
// would have the kernel reset the drive.
const silence = 10 * time.Second

var (
	errUnsupported = errors.New("the drive does not say how it is")
	errAsleep      = errors.New("the drive sleeps")
	errSilent      = errors.New("the drive does not answer")
)

// complaint is what a drive may say of itself.
type complaint struct {
	condition correlate.Condition
	failed    bool
	text      string
}

// report is a drive's word about itself.
type report struct {
	complaints []complaint // one for each condition that it can tell
	evidence   map[string]string
}

// note adds to what is wrong, or that nothing is.
func (r *report) note(condition correlate.Condition, failed bool, text string) {
	for i := range r.complaints {
		if c := &r.complaints[i]; c.condition == condition {
			switch {
			case failed && c.failed:
				c.text += "; " + text
			case failed:
				c.failed, c.text = true, text
			}
			return
		}
	}
	r.complaints = append(r.complaints, complaint{condition, failed, text})
}

// drives are those that can be asked. A question runs in a goroutine of its own, one a drive, and prompts when it was answered.
type drives struct {
	mu      sync.Mutex
	all     map[string]*drive // by device
	done    hw.Prompt
	asker   func(name string, kind language, sectors uint64) (*report, error)
	refused error // a right is missing
}

// language is how a drive is spoken to.
type language uint8

const (
	mute language = iota // not at all
	nvme
	ata
	scsi
)

// drive is one of them. Its fields are the drives' lock's.
type drive struct {
	asked       time.Time
	busy        bool // a question is not answered yet
	hurry       bool // ask now
	unsupported bool
	last        *report // the last answer; nil: none yet
	err         error   // of the last question
}

func newDrives(done hw.Prompt) *drives {
	return &drives{all: make(map[string]*drive), done: done, asker: askDrive}
}

// hurry has a drive asked at the next poll: the device, or all of an NVMe controller; empty: every one.
func (ds *drives) hurry(name string) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	for n, d := range ds.all {
		if name == "" || n == name || strings.HasPrefix(n, name+"n") {
			d.hurry = true
		}
	}
}

// denied is the error of a drive that may not be asked; nil: all may.
func (ds *drives) denied() error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.refused
}

// ask puts the questions that are due and says what was answered last, or what is wrong with the answer.
func (w *watch) ask(now time.Time) []correlate.Event {
	if w.config.Health < 0 {
		return nil
	}
	ds := w.drives
	ds.mu.Lock()
	defer ds.mu.Unlock()
	maps.DeleteFunc(ds.all, func(name string, d *drive) bool { return !d.busy && w.stack.devices[name] == nil })
	var events []correlate.Event
	ds.refused = nil
	for name, device := range w.stack.devices {
		kind := device.language
		if kind == mute {
			continue
		}
		d := ds.all[name]
		if d == nil {
			d = new(drive)
			ds.all[name] = d
		}
		if !d.busy && !d.unsupported && !device.asleep && (d.hurry || d.asked.IsZero() || now.Sub(d.asked) >= w.config.Health) {
			d.busy, d.hurry, d.asked = true, false, now
			go ds.question(name, kind, w.config.Sectors, d)
		}
		if errors.Is(d.err, fs.ErrPermission) {
			ds.refused = d.err
		}
		events = append(events, d.tell(device, now)...)
	}
	return events
}

// question asks one drive. Nothing can call it back while the kernel waits for the drive.
func (ds *drives) question(name string, kind language, sectors uint64, d *drive) {
	var answer *report
	err := hw.Contain(func() (err error) {
		answer, err = ds.asker(name, kind, sectors)
		return err
	})
	ds.mu.Lock()
	d.busy = false
	switch {
	case err == nil:
		d.last, d.err = answer, nil
	case errors.Is(err, errAsleep): // what it said last still counts
		d.err = nil
	case errors.Is(err, errUnsupported):
		d.unsupported, d.err = true, nil
	default:
		d.err = err
	}
	ds.mu.Unlock()
	ds.done.Give()
}

// told are the conditions that a drive tells of itself.
var told = []correlate.Condition{correlate.CondDiskFailed, correlate.CondDiskFailing, correlate.CondDiskHot, correlate.CondDiskSilent}

// tell says what is known of a drive; what is not is unknown, not well.
func (d *drive) tell(on *device, now time.Time) []correlate.Event {
	if d.unsupported {
		return nil
	}
	var events []correlate.Event
	for _, condition := range told {
		e := correlate.Event{Resource: on.id, Condition: condition, Text: "it has not been asked yet"}
		switch {
		case d.err != nil:
			e.Text = d.err.Error()
		case condition == correlate.CondDiskSilent && d.busy && now.Sub(d.asked) >= silence:
			e.Status, e.Text = correlate.StatusFailed, fmt.Sprintf("%s: %s for %s", on.name, errSilent, now.Sub(d.asked).Truncate(time.Second))
		case condition == correlate.CondDiskSilent && !d.busy:
			e.Status, e.Text = correlate.StatusOK, on.name+": it answers"
		case d.last != nil:
			i := slices.IndexFunc(d.last.complaints, func(c complaint) bool { return c.condition == condition })
			if i < 0 {
				continue
			}
			c := d.last.complaints[i]
			e.Status, e.Text, e.Evidence = status(c.failed), on.name+": "+c.text, maps.Clone(d.last.evidence)
		}
		events = append(events, e)
	}
	return events
}

// speech is the language of a drive in its folder of sysfs. What is reached over a network or USB is left alone, but for NVMe.
func speech(dir string, d *device) language {
	switch {
	case d.id.Kind() != correlate.KindDisk:
	case strings.HasPrefix(d.name, "nvme"):
		return nvme
	case d.foreign || text(dir, "device", "type") != "0": // drivers/scsi: a direct-access device
	case text(dir, "device", "vendor") == "ATA":
		return ata
	case exists(filepath.Join(dir, "device"), "scsi_level"):
		return scsi
	}
	return mute
}

// askDrive opens the drive for one question. Opening for reading changes nothing of it.
func askDrive(name string, kind language, sectors uint64) (*report, error) {
	path := "/dev/" + strings.ReplaceAll(name, "!", "/")
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	var answer *report
	switch kind {
	case nvme:
		answer, err = askNVMe(nvmeAdmin(fd))
	case ata:
		answer, err = askATA(scsiGeneric(fd), sectors)
	case scsi:
		answer, err = askSCSI(scsiGeneric(fd))
	case mute:
		err = errUnsupported
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s how it is: %w", path, err)
	}
	return answer, nil
}
