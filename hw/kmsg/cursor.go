package kmsg

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/paramedic-ha/paramedic/hw"
)

// The cursor is one line: the boot's id and the number of the next record.

// load takes up where the last run was, if it was under this kernel.
func (r *reader) load() {
	if r.config.Cursor == "" || r.boot == "" {
		return
	}
	b, err := os.ReadFile(r.config.Cursor)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			r.log.Warn("what was read of the kernel's log is not known", "error", err)
		}
		return
	}
	boot, seq, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	if boot != r.boot {
		r.known = true // a new kernel: all that it wrote is new
		return
	}
	if next, err := strconv.ParseUint(seq, 10, 64); err == nil {
		r.known, r.next = true, next
	}
}

// save notes it. A lost cursor of this boot means lines read twice, and with the machine the boot ends.
func (r *reader) save() {
	if r.config.Cursor == "" || r.boot == "" || !r.fresh {
		return
	}
	err := hw.Replace(r.config.Cursor, fmt.Appendf(nil, "%s %d\n", r.boot, r.next))
	if err != nil && !r.mute {
		r.log.Warn("what was read of the kernel's log could not be noted: a restart may read it again", "error", err)
	}
	r.fresh, r.mute = false, err != nil
}
