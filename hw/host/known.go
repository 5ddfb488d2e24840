package host

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/paramedic-ha/paramedic/hw"
)

// takenIn is how long after it was told what a source says is surely in the engine.
const takenIn = time.Second

// known is what outlives the agent under one kernel: a processor that is offline at a start may have worked before, or may
// have been set offline before there was an agent; and one whose alarm was acknowledged is not told again.
type known struct {
	Boot       string        `json:"boot"`
	Processors map[int]place `json:"processors"`
	Offline    []int         `json:"offline"` // told
}

// load gives what is known of this kernel; nothing when it is another one.
func (s *Source) load() known {
	boot := s.boot()
	if boot == "" || s.config.Known == "" {
		return known{}
	}
	b, err := os.ReadFile(s.config.Known)
	var k known
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("which processors worked before is not known", "error", err)
	}
	if err != nil || k.Boot != boot {
		return known{}
	}
	return k
}

// save writes it.
func (s *Source) save(k known) {
	if k.Boot = s.boot(); k.Boot == "" || s.config.Known == "" {
		return
	}
	b, err := json.Marshal(k)
	if err == nil {
		err = hw.Replace(s.config.Known, b)
	}
	if err != nil {
		s.log.Warn("which processors work could not be noted", "error", err)
	}
}

// boot is the id of the present kernel; empty: it can't be read.
func (s *Source) boot() string {
	id, err := s.config.Root.Boot()
	if err != nil {
		return ""
	}
	return id
}
