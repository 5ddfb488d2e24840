package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// threadsSettle is how long the set of processors must be unchanged before a thread counts as failed whose core still works:
// switching simultaneous multithreading off takes them away one by one, and says so at its end.
const threadsSettle = 3 * time.Second

// maxProcessor bounds the numbers that are believed; the kernel's own limit is 8192 (NR_CPUS).
const maxProcessor = 1 << 16

// place is where a logical processor sits. It can be read while the processor is online only.
type place struct {
	Package correlate.ID `json:"package"`
	Core    string       `json:"core"` // unique in the host
}

// processors are the logical processors of the host by number, and its packages.
type processors struct {
	known    map[int]place // those that worked under this kernel
	told     map[int]bool  // those that were told to be offline
	unsaved  time.Time     // since when the file does not say this; zero: it does
	online   []int         // at the last look
	changed  time.Time     // when that changed last
	packages map[correlate.ID]*pkg
	// What all have in common.
	model, microcode string
	throttled        uint64
}

// pkg is one package (socket).
type pkg struct {
	stated  string      // its processors, as stated
	heat    hw.Tally    // how often it was slowed down
	counted map[int]hot // by its processors
	failed  bool        // told so
}

// hot are the counters of a processor (arch/x86: thermal_throttle): how often its core and its package were too hot.
type hot struct{ core, pkg uint64 }

func newProcessors(s *Source, k known) processors {
	p := processors{known: k.Processors, told: make(map[int]bool), packages: make(map[correlate.ID]*pkg)}
	if p.known == nil {
		p.known = make(map[int]place)
	}
	for _, n := range k.Offline {
		p.told[n] = true
	}
	p.model, p.microcode = model(s.config.Root)
	p.throttled = s.config.Throttled
	return p
}

// ids are the packages, sorted.
func (p *processors) ids() []correlate.ID { return slices.Sorted(maps.Keys(p.packages)) }

// lookProcessors reads which logical processors are online (Documentation/admin-guide/cputopology.rst), and how hot they were.
func (w *watch) lookProcessors(_ context.Context, d *correlate.Delta, now time.Time) error {
	p := &w.processors
	if !p.unsaved.IsZero() && now.Sub(p.unsaved) >= takenIn {
		w.save(known{Processors: p.known, Offline: slices.Sorted(maps.Keys(p.told))})
		p.unsaved = time.Time{}
	}
	text, err := hw.ReadAttr(w.config.Root.SysPath("devices", "system", "cpu", "online"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	online, err := parseList(text)
	if err != nil {
		return fmt.Errorf("which processors are online: %w", err)
	}
	if !slices.Equal(online, p.online) {
		p.online, p.changed = online, now
		for _, n := range online {
			if _, ok := p.known[n]; !ok {
				p.known[n] = placeOf(w.config.Root, n)
				p.unsaved = now
			}
		}
	}
	p.state(d)
	w.judgeOffline(d, now)
	w.judgeHeat(d, now)
	return nil
}

// state states the packages that are new or have more processors than were stated.
func (p *processors) state(d *correlate.Delta) {
	members := make(map[correlate.ID][]int)
	for n, at := range p.known {
		members[at.Package] = append(members[at.Package], n)
	}
	for _, id := range slices.Sorted(maps.Keys(members)) {
		k := p.packages[id]
		if k == nil {
			k = &pkg{counted: make(map[int]hot), heat: hw.Tally{Limit: p.throttled, Window: time.Minute}}
			p.packages[id] = k
		}
		slices.Sort(members[id])
		if all := formatList(members[id]); all != k.stated {
			k.stated = all
			facts := map[string]string{"processors": all}
			for fact, value := range map[string]string{"model": p.model, "microcode": p.microcode} {
				if value != "" {
					facts[fact] = value
				}
			}
			d.Set = append(d.Set, correlate.Resource{ID: id, Name: "processor " + strings.TrimPrefix(id.Name(), "package"), Facts: facts})
		}
	}
}

// judgeOffline tells which processors went offline, of each package, and when all are back.
func (w *watch) judgeOffline(d *correlate.Delta, now time.Time) {
	p := &w.processors
	offline := w.offline(now)
	for _, id := range p.ids() {
		k := p.packages[id]
		var gone []int
		var news bool
		for _, n := range offline {
			if p.known[n].Package == id {
				gone = append(gone, n)
				news = news || !p.told[n]
			}
		}
		for n := range p.told { // those that are back may fail anew
			if p.known[n].Package == id && !slices.Contains(gone, n) {
				delete(p.told, n)
				p.unsaved = now
			}
		}
		key := correlate.Key{Resource: id, Condition: correlate.CondCPUOffline}
		switch {
		case len(gone) == 0 && (k.failed || w.standing[key]):
			k.failed = false
			d.Events = append(d.Events, w.event(id, correlate.CondCPUOffline, correlate.StatusOK, now, "all logical processors are online"))
		case news, len(gone) > 0 && w.standing[key]: // not one that was acknowledged
			k.failed = true
			e := w.event(id, correlate.CondCPUOffline, correlate.StatusFailed, now,
				fmt.Sprintf("%d of the logical processors %s are offline: %s", len(gone), k.stated, formatList(gone)))
			e.Evidence = map[string]string{"offline": formatList(gone)}
			d.Events = append(d.Events, e)
			for _, n := range gone {
				p.told[n] = true
			}
			p.unsaved = now
		}
		delete(w.standing, key)
	}
}

// offline are the processors that worked and do no more, without those that multithreading was switched off for.
func (w *watch) offline(now time.Time) []int {
	p := &w.processors
	cores := make(map[string]bool) // that still work
	works := make(map[int]bool, len(p.online))
	for _, n := range p.online {
		cores[p.known[n].Core], works[n] = true, true
	}
	smt, _ := hw.ReadAttr(w.config.Root.SysPath("devices", "system", "cpu", "smt", "control")) // none: older kernels
	var offline []int
	for n, at := range p.known {
		switch {
		case works[n]:
		case cores[at.Core] && (smt == "off" || smt == "forceoff"):
		case cores[at.Core] && !p.told[n] && now.Sub(p.changed) < threadsSettle:
		default:
			offline = append(offline, n)
		}
	}
	slices.Sort(offline)
	return offline
}

// judgeHeat tells of packages that are slowed down too often. It is told again as long as it goes on.
func (w *watch) judgeHeat(d *correlate.Delta, now time.Time) {
	p := &w.processors
	for _, id := range p.ids() {
		k := p.packages[id]
		var cores, whole uint64
		for _, n := range p.online {
			if p.known[n].Package != id {
				continue
			}
			is, ok := w.heat(n)
			if !ok {
				continue
			}
			if was, seen := k.counted[n]; seen {
				cores += hw.Grown(was.core, is.core)
				whole = max(whole, hw.Grown(was.pkg, is.pkg)) // each processor counts it
			}
			k.counted[n] = is
		}
		times := max(cores, whole)
		w.counters.throttled.Add(times)
		if total, fast := k.heat.Add(now, times); fast && times > 0 {
			d.Events = append(d.Events, w.event(id, correlate.CondThrottled, correlate.StatusFailed, now,
				fmt.Sprintf("slowed down %d times in the last minute because of its temperature", total)))
		}
	}
}

func (w *watch) heat(n int) (hot, bool) {
	at := func(name string) string {
		return w.config.Root.SysPath("devices", "system", "cpu", "cpu"+strconv.Itoa(n), "thermal_throttle", name)
	}
	core, err := hw.ReadIntAttr(at("core_throttle_count"))
	if err != nil {
		return hot{}, false
	}
	whole, err := hw.ReadIntAttr(at("package_throttle_count"))
	if err != nil {
		whole = 0 // there is none on some
	}
	return hot{uint64(max(0, core)), uint64(max(0, whole))}, true
}

// placeOf reads where a processor sits.
func placeOf(root hw.Root, n int) place {
	attr := func(name string) string {
		s, err := hw.ReadAttr(root.SysPath("devices", "system", "cpu", "cpu"+strconv.Itoa(n), "topology", name))
		if err != nil || strings.HasPrefix(s, "-") {
			return ""
		}
		return s
	}
	at := place{Package: root.PackageOf(n)}
	core := attr("core_id")
	if core == "" {
		core = "cpu" + strconv.Itoa(n)
	}
	at.Core = at.Package.Name() + "/" + attr("die_id") + "/" + core
	return at
}

var errList = errors.New(`want "0-3,8"`)

// parseList reads a list of processors as the kernel writes it (lib/vsprintf.c: bitmap_list_string). Sorted.
func parseList(text string) ([]int, error) {
	var all []int
	if text == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			return nil, fmt.Errorf("list of processors %.100q: %w", text, errList)
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(last); err != nil {
				return nil, fmt.Errorf("list of processors %.100q: %w", text, errList)
			}
		}
		if from < 0 || to < from || to > maxProcessor {
			return nil, fmt.Errorf("list of processors %.100q: %w", text, errList)
		}
		for n := from; n <= to; n++ {
			all = append(all, n)
		}
		if len(all) > maxProcessor+1 {
			return nil, fmt.Errorf("list of processors %.100q: %w", text, errList)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// formatList is the way back.
func formatList(sorted []int) string {
	var parts []string
	for i := 0; i < len(sorted); {
		j := i
		for j+1 < len(sorted) && sorted[j+1] == sorted[j]+1 {
			j++
		}
		part := strconv.Itoa(sorted[i])
		if j > i {
			part += "-" + strconv.Itoa(sorted[j])
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}
