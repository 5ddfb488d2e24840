package disk

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// stack is the block devices of one poll, with those of earlier ones that a fault took.
type stack struct {
	devices map[string]*device // by name, without the disks that are lost
	lost    map[string]*device // disks that a fault took and that are not there again
	numbers map[string]*device // all of them by "major:minor"; who is there comes before who was
}

func compareIDs(a, b correlate.ID) int { return strings.Compare(string(a), string(b)) }

// part is how partitions are called, and the drives that they are of.
var part = regexp.MustCompile(`^(?:((?:sd|vd|xvd|hd)[a-z]+)\d+|((?:nvme\d+n|mmcblk|rbd)\d+)p\d+)$`)

// missing is what devices and mounts still hang on although it is not there: it vanished before we looked for the first time.
func missing(root hw.Root, now map[string]*device, mounts []mount) *stack {
	s := &stack{devices: make(map[string]*device)}
	var note func(name, number string)
	note = func(name, number string) {
		if now[name] != nil || exists(root.SysPath("class", "block"), name) {
			return // it is there, and watched or none of our business
		}
		d := &device{name: name, id: root.OfBlock(name), number: number, facts: make(map[string]string)}
		if m := part.FindStringSubmatch(name); m != nil {
			d.parent = m[1] + m[2]
			note(d.parent, "")
		}
		if d.id.Kind() == correlate.KindDisk || d.parent != "" { // no other goes by a fault
			s.devices[name] = d
		}
	}
	for _, m := range mounts { // the number counts: a source may have any name, like /dev/root
		name, ok := strings.CutPrefix(m.source, "/dev/")
		if ok && !strings.HasPrefix(m.number, "0:") && !strings.Contains(name, "/") && !exists(root.SysPath("dev", "block"), m.number) {
			note(name, m.number)
		}
	}
	for name, d := range now {
		below := d.lower()
		for _, b := range below {
			note(b, "")
		}
		if slices.ContainsFunc(below, func(b string) bool { return s.devices[b] != nil }) {
			s.devices[name] = &device{name: name, id: d.id, number: d.number, below: below}
		}
	}
	return s
}

// settle joins what was just read with what is known from before. A disk that vanishes is a fault when something stands on it, or
// when it is part of the host; else it was given back. Its partitions stay with it, marked, and fail because of it: so the
// disk alone has an alarm. Any other volume goes only when somebody takes it away. used are the numbers of what is mounted, swapped
// to, or given to a domain.
func settle(before *stack, now map[string]*device, used map[string]bool) (*stack, []correlate.Gone) {
	s := &stack{devices: maps.Clone(now), lost: make(map[string]*device), numbers: make(map[string]*device)}
	known := make(map[string]*device) // all that was there, or is missed
	maps.Copy(known, before.lost)
	maps.Copy(known, before.devices)
	needed := make(map[string]bool)
	for name, d := range known {
		if used[d.number] && now[name] == nil {
			needed[name], needed[d.parent] = true, true
		}
		if now[name] == nil {
			continue
		}
		for _, b := range d.below {
			needed[b] = true
			if below := known[b]; below != nil {
				needed[below.parent] = true
			}
		}
	}
	var gone []correlate.Gone
	away := func(d *device) {
		gone = append(gone, correlate.Gone{ID: d.id, Reason: correlate.GoneOrderly, Text: "taken away"})
	}
	for name, d := range known {
		if now[name] != nil || d.id.Kind() != correlate.KindDisk {
			continue
		}
		if !needed[name] && (d.foreign || moved(d, now)) {
			away(d)
			continue
		}
		lost := *d
		lost.absent = true
		s.lost[name] = &lost // a full statement that lacks it says that it vanished
	}
	for name, d := range known {
		if now[name] != nil || d.id.Kind() == correlate.KindDisk {
			continue
		}
		if d.parent == "" || s.lost[d.parent] == nil {
			away(d)
			continue
		}
		lost := *d
		lost.absent = true
		s.devices[name] = &lost
	}
	for name, d := range now {
		d.below = d.lower()
		old := before.devices[name]
		if old == nil || d.array != nil && d.array.degraded == 0 {
			continue
		}
		for _, b := range old.below { // it still hangs on what was pulled from under it
			if s.missed(b) && !slices.Contains(d.below, b) {
				d.below = append(d.below, b)
			}
		}
	}
	for _, d := range s.lost {
		s.numbers[d.number] = d
	}
	for _, d := range s.devices {
		if have := s.numbers[d.number]; have == nil || have.absent {
			s.numbers[d.number] = d
		}
	}
	slices.SortFunc(gone, func(a, b correlate.Gone) int { return compareIDs(a.ID, b.ID) })
	return s, gone
}

// moved reports whether a drive is there under another name: it was plugged in anew.
func moved(d *device, now map[string]*device) bool {
	wwid := d.facts["wwid"]
	if wwid == "" {
		return false
	}
	for _, other := range now {
		if other.id.Kind() == correlate.KindDisk && other.facts["wwid"] == wwid {
			return true
		}
	}
	return false
}

// missed reports whether a fault took the device.
func (s *stack) missed(name string) bool {
	d := s.devices[name]
	return s.lost[name] != nil || d != nil && d.absent
}

// id of a device that is there or was.
func (s *stack) id(name string) correlate.ID {
	if d := s.devices[name]; d != nil {
		return d.id
	}
	if d := s.lost[name]; d != nil {
		return d.id
	}
	return ""
}

// filesystems gives the volumes that are mounted, with their devices. The kernel's log names a file system by its device,
// and so do we.
func (s *stack) filesystems(mounts []mount) map[correlate.ID]*device {
	all := make(map[correlate.ID]*device)
	for _, m := range mounts {
		if d := s.under(m); d != nil {
			all[correlate.NewID(correlate.KindVolume, d.name)] = d
		}
	}
	return all
}

// under is the device that a mount stands on; nil: none of ours. btrfs has numbers of its own, so its source counts.
func (s *stack) under(m mount) *device {
	if d := s.numbers[m.number]; d != nil {
		return d
	}
	name, ok := strings.CutPrefix(m.source, "/dev/")
	if !ok || m.kind != "btrfs" {
		return nil
	}
	if d := s.devices[name]; d != nil {
		return d
	}
	for _, d := range s.devices {
		if d.dmName != "" && name == "mapper/"+d.dmName {
			return d
		}
	}
	return s.lost[name]
}

// at is the device with a number, or under the mount that has it; nil: none of ours.
func (s *stack) at(number string, mounts []mount) *device {
	if d := s.numbers[number]; d != nil {
		return d
	}
	for _, m := range mounts {
		if m.number == number {
			return s.under(m)
		}
	}
	return nil
}

// resources states the devices with what each stands on, sorted by id.
func (s *stack) resources(mounted map[correlate.ID]*device) []correlate.Resource {
	var all []correlate.Resource
	for _, d := range s.devices {
		r := correlate.Resource{ID: d.id, Name: d.name, Facts: d.facts}
		if d.dmName != "" {
			r.Name = d.dmName
		}
		if need := s.need(d); len(need.Of) > 0 {
			r.Needs = []correlate.Need{need}
		}
		all = append(all, r)
	}
	for id, d := range mounted {
		if id != d.id { // straight on a disk: a resource beside it
			all = append(all, correlate.Resource{
				ID: id, Name: d.name, Needs: []correlate.Need{{Mode: correlate.AllOf, Of: []correlate.ID{d.id}}},
			})
		}
	}
	slices.SortFunc(all, func(a, b correlate.Resource) int { return compareIDs(a.ID, b.ID) })
	return all
}

// need is what a device stands on.
func (s *stack) need(d *device) correlate.Need {
	need := correlate.Need{Mode: correlate.AllOf}
	below := d.below
	switch {
	case d.array != nil:
		k := d.array.needed()
		if k <= 0 { // a container, or a level that is not known: it judges itself
			return need
		}
		need.Mode, need.K, need.Condition = correlate.KOfN, k, correlate.CondRAIDFailed
	case d.multipath():
		need.Mode, need.K, need.Condition = correlate.KOfN, 1, correlate.CondNoPath
	default:
		legs := slices.DeleteFunc(slices.Clone(below), func(name string) bool { return !leg(s.devices[name]) })
		if len(legs) > 0 { // its level is not in sysfs: one leg is the least that any needs, so nobody is told wrong
			below, need.Mode, need.K, need.Condition = legs, correlate.KOfN, 1, correlate.CondRAIDFailed
		}
	}
	for _, name := range below {
		if id := s.id(name); id != "" {
			need.Of = append(need.Of, id)
		}
	}
	slices.Sort(need.Of)
	need.Of = slices.Compact(need.Of)
	return need
}

// leg reports whether a device is one leg of a redundant LVM volume, which LVM names so (lvmraid(7)).
func leg(d *device) bool {
	return d != nil && (strings.Contains(d.dmName, "_rimage_") || strings.Contains(d.dmName, "_mimage_"))
}

// lower names what a device stands on, as the kernel shows it. Spares of an array don't help yet.
func (d *device) lower() []string {
	switch {
	case d.parent != "":
		return []string{d.parent}
	case d.array != nil:
		var all []string
		for _, m := range d.array.members {
			if m.synced || m.faulty {
				all = append(all, m.name)
			}
		}
		return all
	}
	return slices.Clone(d.slaves)
}

// unmounted gives the file systems straight on a disk that are not mounted any more.
func unmounted(before, now map[correlate.ID]*device) []correlate.Gone {
	var gone []correlate.Gone
	for id, d := range before {
		if now[id] == nil && id != d.id {
			gone = append(gone, correlate.Gone{ID: id, Reason: correlate.GoneOrderly, Text: "unmounted"})
		}
	}
	return gone
}
