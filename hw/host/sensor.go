package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// coolBy is how far below its limit a temperature must fall to be well again, in m°C.
const coolBy = 2000

// channel is one sensor as it was read (Documentation/hwmon/sysfs-interface.rst): the attributes of temp1, fan2, in0 …, by
// what stands behind the underscore.
type channel struct {
	id     correlate.ID
	class  string // temp, fan, in, curr, power
	label  string
	values map[string]int64
	err    error // of its value
}

// sensors are the channels that were stated.
type sensors map[correlate.ID]*sensor

type sensor struct {
	label     string
	stated    bool
	well      bool     // it was, once: until then a limit may be one that nobody has set, a fan one that nobody has plugged in
	status    standing // told
	unknown   bool     // told
	condition correlate.Condition
}

// standing is how a sensor stands to its limits.
type standing uint8

const (
	unsaid standing = iota
	within
	beyond
	critical
)

// classes are the conditions of the classes of sensors, and how their values are told.
var classes = map[string]struct {
	condition correlate.Condition
	unit      string
	scale     float64
}{
	"temp":  {correlate.CondTemperature, "°C", 1000},
	"fan":   {correlate.CondFan, "rpm", 1},
	"in":    {correlate.CondVoltage, "V", 1000},
	"curr":  {correlate.CondPowerLimit, "A", 1000},
	"power": {correlate.CondPowerLimit, "W", 1e6},
}

// ids are those of some kinds, sorted; without any: all.
func (s sensors) ids(kinds ...correlate.Kind) []correlate.ID {
	ids := slices.Sorted(maps.Keys(s))
	if len(kinds) == 0 {
		return ids
	}
	return slices.DeleteFunc(ids, func(id correlate.ID) bool { return !slices.Contains(kinds, id.Kind()) })
}

var errSlowSensors = errors.New("the sensors of the kernel (hwmon) do not answer: a driver hangs")

// lookSensors reads the sensors and tells what has changed.
func (w *watch) lookSensors(ctx context.Context, d *correlate.Delta, now time.Time) error {
	channels, err := w.readSensors(ctx)
	if err != nil {
		for _, id := range w.sensors.ids() {
			w.sensors[id].state(d, id)
			w.doubt(d, id, now, err)
		}
		return err
	}
	seen := make(map[correlate.ID]bool, len(channels))
	for i := range channels {
		c := &channels[i]
		seen[c.id] = true
		if w.sensors[c.id] == nil {
			kind := classes[c.class]
			w.sensors[c.id] = &sensor{
				label: c.label, condition: kind.condition,
				// What the last run has told was believed.
				well: c.class == "temp" || w.standing[correlate.Key{Resource: c.id, Condition: kind.condition}],
			}
		}
		w.sensors[c.id].state(d, c.id)
		w.judgeSensor(d, c, now)
	}
	for _, id := range w.sensors.ids() {
		if !seen[id] { // a driver that was unloaded takes nothing away
			delete(w.sensors, id)
			d.Gone = append(d.Gone, correlate.Gone{ID: id, Reason: correlate.GoneOrderly, Observed: now, Text: "its driver was unloaded"})
		}
	}
	w.last = w.sensors
	return nil
}

// state states a sensor once.
func (s *sensor) state(d *correlate.Delta, id correlate.ID) {
	if !s.stated {
		s.stated = true
		d.Set = append(d.Set, correlate.Resource{ID: id, Name: s.label})
	}
}

// doubt tells that a sensor can't be read: what was told stays.
func (w *watch) doubt(d *correlate.Delta, id correlate.ID, now time.Time, err error) {
	s := w.sensors[id]
	if !s.unknown {
		s.unknown, s.status = true, unsaid
		d.Events = append(d.Events, w.event(id, s.condition, correlate.StatusUnknown, now, err.Error()))
	}
}

func (w *watch) judgeSensor(d *correlate.Delta, c *channel, now time.Time) {
	s := w.sensors[c.id]
	is, why := c.judge(s.status > within)
	if is == unsaid || is > within && !s.well {
		if c.err == nil {
			c.err = errors.New(why) //nolint:err113 // for people
		}
		w.doubt(d, c.id, now, c.err)
		return
	}
	s.well = true
	if is == s.status {
		return
	}
	s.status, s.unknown = is, false
	kind := classes[c.class]
	status := correlate.StatusFailed
	if is == within {
		status, why = correlate.StatusOK, "within its limits"
	}
	text := why
	if v, ok := c.values["input"]; ok {
		text = fmt.Sprintf("%s: %s %s, %s", c.label, strconv.FormatFloat(float64(v)/kind.scale, 'f', -1, 64), kind.unit, why)
	}
	e := w.event(c.id, kind.condition, status, now, text)
	if is == critical && c.class != "fan" {
		e.Severity = correlate.SeverityMajor
	}
	if is != within {
		e.Evidence = make(map[string]string)
		for name, v := range c.values {
			e.Evidence[name] = strconv.FormatInt(v, 10)
		}
	}
	d.Events = append(d.Events, e)
}

// judge says how a sensor stands to its limits, and why. A limit of zero, or below, is one that nobody has set. was: it was
// beyond before.
func (c *channel) judge(was bool) (standing, string) {
	if c.err != nil {
		return unsaid, c.err.Error()
	}
	if c.values["fault"] != 0 {
		if c.class == "fan" {
			return beyond, "the fan has failed"
		}
		return unsaid, "the sensor is broken"
	}
	for _, alarm := range []string{"emergency_alarm", "crit_alarm", "lcrit_alarm"} {
		if c.values[alarm] != 0 {
			return critical, "the chip says " + alarm
		}
	}
	value, measured := c.values["input"]
	slack := int64(0)
	if was && c.class == "temp" {
		slack = coolBy
	}
	over := func(name string) bool {
		limit := c.values[name]
		return measured && limit > 0 && value >= limit-slack
	}
	under := func(name string) bool {
		limit := c.values[name]
		return measured && limit > 0 && value < limit
	}
	for _, limit := range []string{"emergency", "crit"} {
		if c.class != "fan" && over(limit) {
			return critical, "the limit " + limit + " is reached"
		}
	}
	if under("lcrit") {
		return critical, "below the limit lcrit"
	}
	for _, alarm := range []string{"alarm", "max_alarm", "min_alarm", "cap_alarm"} {
		if c.values[alarm] != 0 {
			return beyond, "the chip says " + alarm
		}
	}
	switch {
	case c.class != "fan" && over("max"):
		return beyond, "the limit max is reached"
	case under("min"):
		return beyond, "below the limit min"
	case !measured && len(c.values) == 0:
		return unsaid, "it has no value"
	}
	return within, ""
}

// readSensors reads all of them. It waits for a driver that hangs for a moment only: that read goes on, and as long as it
// does no other is begun.
func (w *watch) readSensors(ctx context.Context) ([]channel, error) {
	if !w.wanted() {
		return nil, nil
	}
	if !w.reading.CompareAndSwap(false, true) {
		return nil, errSlowSensors
	}
	type result struct {
		channels []channel
		err      error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		r.err = hw.Contain(func() (err error) {
			r.channels, err = readChips(w.config.Root)
			return err
		})
		w.reading.Store(false) // before: whoever has the result may read again
		done <- r
	}()
	patience := time.NewTimer(w.patience)
	defer patience.Stop()
	select {
	case r := <-done:
		return r.channels, r.err
	case <-patience.C:
		return nil, errSlowSensors
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// wanted says whether sensors are watched now.
func (w *watch) wanted() bool {
	if w.config.Sensors != SensorsAuto {
		return w.config.Sensors == SensorsAlways
	}
	bmc, err := list(w.config.Root.SysPath("class", "ipmi"))
	return err == nil && len(bmc) == 0
}

// ofDisks are chips that disks are: hw/disk watches those.
var ofDisks = []string{"nvme", "drivetemp"}

var attribute = regexp.MustCompile(`^(temp|fan|in|curr|power)(\d+)_([a-z_]+)$`)

func readChips(root hw.Root) ([]channel, error) {
	dir := root.SysPath("class", "hwmon")
	chips, err := list(dir)
	if err != nil {
		return nil, fmt.Errorf("list the sensor chips: %w", err)
	}
	var all []channel
	for _, chip := range chips {
		at := filepath.Join(dir, chip.Name())
		name, err := hw.ReadAttr(filepath.Join(at, "name"))
		if err != nil || slices.Contains(ofDisks, name) {
			continue // it is going, or none of ours
		}
		channels, err := readChip(at, chipID(at, name), name)
		if err != nil {
			return nil, err
		}
		all = append(all, channels...)
	}
	return all, nil
}

// chipID tells chips of one kind apart by the device that they are of: hwmon's own numbers change from boot to boot.
func chipID(at, name string) string {
	device, err := os.Readlink(filepath.Join(at, "device"))
	device = filepath.Base(device)
	switch {
	case err != nil || device == "." || device == name:
		return name
	case strings.HasPrefix(device, name):
		return device
	}
	return name + "-" + device
}

func readChip(at, id, name string) ([]channel, error) {
	files, err := list(at)
	if err != nil {
		return nil, fmt.Errorf("list the sensors of %s: %w", name, err)
	}
	found := make(map[string]*channel)
	for _, f := range files {
		m := attribute.FindStringSubmatch(f.Name())
		if m == nil {
			continue
		}
		key, what := m[1]+m[2], m[3]
		c := found[key]
		if c == nil {
			kind := correlate.KindSensor
			if m[1] == "fan" {
				kind = correlate.KindFan
			}
			c = &channel{id: correlate.NewID(kind, "hwmon-"+id+"-"+key), class: m[1], label: name + " " + key, values: make(map[string]int64)}
			found[key] = c
		}
		c.read(filepath.Join(at, f.Name()), what, name)
	}
	var channels []channel
	for _, key := range slices.Sorted(maps.Keys(found)) {
		if c := found[key]; c.err != nil || len(c.values) > 0 {
			channels = append(channels, *c)
		}
	}
	return channels, nil
}

// used are the attributes that judge looks at.
var used = []string{
	"input", "fault", "max", "min", "crit", "lcrit", "emergency",
	"alarm", "max_alarm", "min_alarm", "crit_alarm", "lcrit_alarm", "emergency_alarm", "cap_alarm",
}

func (c *channel) read(path, what, chip string) {
	if what == "label" {
		if label, err := hw.ReadAttr(path); err == nil && label != "" {
			c.label = chip + " " + strings.ToValidUTF8(label, "?")
		}
		return
	}
	if what == "average" { // a power meter's only value, of many
		what = "input"
	}
	if !slices.Contains(used, what) {
		return
	}
	v, err := hw.ReadIntAttr(path)
	switch {
	case what == "min" && c.class == "fan" && fixed(path):
		// How slow its regulation can turn it, which may also stop it: of laptops (dell_smm) and graphics adapters (amdgpu).
	case err == nil:
		c.values[what] = v
	case what == "input" && !errors.Is(err, fs.ErrNotExist):
		c.err = err
	}
}

// fixed reports whether an attribute is one that nobody can set.
func fixed(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o222 == 0
}
