package kmsg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// record is one entry of the kernel's log as a read of /dev/kmsg gives it (Documentation/ABI/testing/dev-kmsg).
type record struct {
	facility int // 0: the kernel itself; all else was written by a process
	seq      uint64
	at       time.Duration // since boot, by the kernel's local clock
	text     string
	device   string // DEVICE= of the dictionary: b8:0, c1:3, n3 (interface index), +pci:0000:00:1f.6
}

var errRecord = errors.New("want \"priority,sequence,microseconds,flags;text\"")

// parse takes one record apart. Fields that the kernel may add before the semicolon are skipped, as its document asks.
func parse(line string) (record, error) {
	head, body, ok := strings.Cut(line, ";")
	fields := strings.SplitN(head, ",", 5)
	if !ok || len(fields) < 3 {
		return record{}, fmt.Errorf("kernel log record: %w", errRecord)
	}
	prio, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil {
		return record{}, fmt.Errorf("kernel log record: priority: %w", err)
	}
	seq, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return record{}, fmt.Errorf("kernel log record: sequence: %w", err)
	}
	us, err := strconv.ParseUint(fields[2], 10, 53)
	if err != nil {
		return record{}, fmt.Errorf("kernel log record: time: %w", err)
	}
	text, dict, _ := strings.Cut(body, "\n")
	r := record{
		facility: int(prio >> 3), seq: seq, at: time.Duration(us) * time.Microsecond, text: unescape(text),
	}
	for dict != "" {
		var pair string
		pair, dict, _ = strings.Cut(dict, "\n")
		if device, ok := strings.CutPrefix(pair, " DEVICE="); ok {
			r.device = unescape(device)
		}
	}
	return r, nil
}

// unescape takes back the \xNN that the kernel writes for backslashes and what is not printable ASCII. What would upset a
// terminal stays escaped.
func unescape(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if c, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil && c >= ' ' && c < 127 {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
