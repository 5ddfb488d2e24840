package disk

import (
	"maps"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// stack is the block devices of one poll, with those of earlier ones that a fault took.
type stack struct {
	devices map[string]*device // by name, without the disks that are lost
	lost    map[string]*device // disks that have vanished and are not there again
	numbers map[string]*device // all of them by "major:minor"; who is there comes before who was
}

// settle joins what was just read with what is known from before. A disk that vanishes is a fault, unless its medium is made
// to be removed. What stood on it stays, marked, and fails because of it: so the disk alone has an alarm. A volume that
// goes while all below it stays was taken away on purpose.
func settle(before *stack, now map[string]*device) (*stack, []correlate.Gone) {
	s := &stack{devices: maps.Clone(now), lost: make(map[string]*device), numbers: make(map[string]*device)}
	for name, d := range before.lost {
		if now[name] == nil {
			s.lost[name] = d
		}
	}
	verdicts := make(map[string]bool)
	var fell func(name string) bool // a fault took it
	fell = func(name string) bool {
		d := before.devices[name]
		switch {
		case now[name] != nil:
			return false
		case d == nil:
			return s.lost[name] != nil
		}
		if v, known := verdicts[name]; known {
			return v
		}
		verdicts[name] = false // what stands on itself ends here
		v := d.id.Kind() == correlate.KindDisk && !d.removable || slices.ContainsFunc(d.below, fell)
		verdicts[name] = v
		return v
	}
	var gone []correlate.Gone
	for name, d := range before.devices {
		if now[name] != nil {
			continue
		}
		was := *d
		was.absent = true
		switch {
		case !fell(name):
			gone = append(gone, correlate.Gone{ID: d.id, Reason: correlate.GoneOrderly, Text: "taken away"})
		case d.id.Kind() == correlate.KindDisk: // a full statement that lacks it says that it vanished
			s.lost[name] = &was
		default:
			s.devices[name] = &was
		}
	}
	for name, d := range now {
		d.below = d.lower()
		old := before.devices[name]
		if old == nil || d.array != nil && d.array.degraded == 0 {
			continue
		}
		for _, b := range old.below { // it still hangs on what was pulled from under it
			if fell(b) && !slices.Contains(d.below, b) {
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
	slices.SortFunc(gone, func(a, b correlate.Gone) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return s, gone
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
		if d := s.numbers[m.number]; d != nil {
			all[correlate.NewID(correlate.KindVolume, d.name)] = d
		}
	}
	return all
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
	slices.SortFunc(all, func(a, b correlate.Resource) int { return strings.Compare(string(a.ID), string(b.ID)) })
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
