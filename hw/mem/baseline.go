package mem

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"

	"github.com/paramedic-ha/paramedic/hw"
)

// baseline is how many uncorrected errors were told under this kernel, by the module's path: so that an alarm that was
// acknowledged does not come back with each start of the agent.
type baseline struct {
	Boot        string            `json:"boot"`
	Uncorrected map[string]uint64 `json:"uncorrected"`
}

// load gives what was told under this kernel; nothing when that is not known.
func (s *Source) load() baseline {
	boot, err := s.config.Root.Boot()
	if err != nil || s.config.Baseline == "" {
		return baseline{}
	}
	b, err := os.ReadFile(s.config.Baseline)
	var known baseline
	if err == nil {
		err = json.Unmarshal(b, &known)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("which memory errors were told before is not known: they are told again", "error", err)
	}
	if err != nil || known.Boot != boot {
		return baseline{Boot: boot}
	}
	return known
}

// save notes what was told, if that has changed. An old file or a new one survives a crash.
func (w *watch) save() {
	if w.known.Boot == "" {
		return
	}
	now := make(map[string]uint64)
	for id, m := range w.modules {
		if m.ue > 0 {
			now[id.Name()] = m.ue
		}
	}
	if maps.Equal(now, w.known.Uncorrected) {
		return
	}
	next := baseline{w.known.Boot, now}
	b, err := json.Marshal(next)
	if err == nil {
		err = hw.Replace(w.config.Baseline, b)
	}
	if err != nil {
		w.log.Warn("which memory errors were told could not be noted", "error", err)
	}
	w.known = next // said once
}
