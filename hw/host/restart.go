package host

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/hw"
)

// Cause is what can be found out about why this kernel took the place of the one before.
type Cause struct {
	Text     string            // for people
	Evidence map[string]string // where it was found
}

// patience is how long LastRestart looks: /var may be on a file system that hangs.
const patience = time.Second

// LastRestart looks for why the host was restarted, from what says it surely to what leaves it open: a panic that the kernel
// before has left (pstore, also as systemd has put it away; a crash dump), a watchdog that fired, and the record of an orderly
// shutdown. booted is when this kernel began. A look that hangs is given up after a second; its goroutine ends when the file system lets it go.
func LastRestart(root hw.Root, booted time.Time) Cause {
	found := make(chan Cause, 1)
	go func() {
		var c Cause
		if err := hw.Contain(func() error { c = lastRestart(root, booted); return nil }); err != nil {
			c = Cause{Text: "why is not known", Evidence: map[string]string{"error": err.Error()}}
		}
		found <- c
	}()
	patient := time.NewTimer(patience)
	defer patient.Stop()
	select {
	case c := <-found:
		return c
	case <-patient.C:
		return Cause{Text: "why is not known: the records of it can't be read in time"}
	}
}

func lastRestart(root hw.Root, booted time.Time) Cause {
	history, recorded := shutdowns(root, booted)
	// What is older than the boot before is of an earlier crash. The clock of that boot may have been a little off.
	since := history.before.Add(-time.Minute)
	if panicked, file := stored(root, since); file != "" {
		return Cause{cmp.Or(panicked, "the kernel before left its last words"), map[string]string{"pstore": file}}
	}
	if dump := newest(root.VarPath("crash", "*"), since); dump != "" {
		return Cause{"the kernel before crashed and left a dump", map[string]string{"dump": dump}}
	}
	if status := watchdogs(root); status != "" {
		return Cause{"the hardware's watchdog, or another guard of it, reset the host: " + status, map[string]string{"bootstatus": status}}
	}
	switch {
	case !recorded:
		return Cause{Text: "why is not known"}
	case history.orderly:
		return Cause{"it was shut down in an orderly way", map[string]string{"wtmp": "shutdown"}}
	}
	return Cause{"no shutdown is recorded: its power was lost, it was reset, or it crashed", map[string]string{"wtmp": "no shutdown"}}
}

// stored finds a record that the kernel before has left in the firmware's memory (Documentation/ABI/testing/pstore), and the
// line that says why in it.
func stored(root hw.Root, since time.Time) (why, file string) {
	for _, pattern := range []string{
		root.SysPath("fs", "pstore", "dmesg-*"),
		root.VarPath("lib", "systemd", "pstore", "dmesg-*"), root.VarPath("lib", "systemd", "pstore", "*", "dmesg*"),
		root.VarPath("lib", "systemd", "pstore", "*", "*", "dmesg*"),
	} {
		if file = newest(pattern, since); file != "" {
			break
		}
	}
	if file == "" {
		return "", ""
	}
	// A record may be in parts: the line is in any of them.
	parts, err := filepath.Glob(filepath.Join(filepath.Dir(file), "dmesg*"))
	if err != nil {
		return "", file
	}
	for _, part := range parts {
		if why := lastWords(part); why != "" {
			return why, file
		}
	}
	return "", file
}

// maxWords bounds what is read of a record.
const maxWords = 1 << 20

// lastWords finds what the kernel said when it panicked (kernel/panic.c).
func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxWords))
	if err != nil {
		return ""
	}
	const word = "Kernel panic - not syncing"
	i := bytes.Index(text, []byte(word))
	if i < 0 {
		return ""
	}
	line, _, _ := bytes.Cut(text[i:], []byte("\n"))
	return strings.ToValidUTF8(string(line[:min(len(line), 300)]), "?")
}

// newest gives the youngest file that matches and is younger than since.
func newest(pattern string, since time.Time) string {
	files, err := filepath.Glob(pattern)
	if err != nil {
		return ""
	}
	var found string
	for _, file := range files {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(since) {
			found, since = file, info.ModTime()
		}
	}
	return found
}

// The bits of a watchdog's bootstatus (include/uapi/linux/watchdog.h).
var bootStatus = []struct {
	bit  int64
	text string
}{
	{0x01, "overheated"},
	{0x02, "a fan failed"},
	{0x04, "external relay 1"},
	{0x08, "external relay 2"},
	{0x10, "power was too low"},
	{0x20, "the watchdog was not fed"},
	{0x40, "power was too high"},
}

func watchdogs(root hw.Root) string {
	dogs, err := list(root.SysPath("class", "watchdog"))
	if err != nil {
		return ""
	}
	var said []string
	for _, dog := range dogs {
		status, err := hw.ReadIntAttr(root.SysPath("class", "watchdog", dog.Name(), "bootstatus"))
		if err != nil {
			continue
		}
		for _, s := range bootStatus {
			if status&s.bit != 0 && !slices.Contains(said, s.text) {
				said = append(said, s.text)
			}
		}
	}
	return strings.Join(said, ", ")
}

// history is what the login records say of the last restart.
type history struct {
	before  time.Time // when the boot before began; zero: it is not recorded
	orderly bool      // it ended with a shutdown
}

// A record of wtmp(5) as x86 Linux writes it: 384 bytes. Elsewhere nothing is found in it.
const (
	recordSize = 384
	runLevel   = 1 // ut_type
	bootRecord = 2
	// maxRecords is how much of the end of the file is read.
	maxRecords = 20_000
)

// shutdowns reads the records backwards to the boot before this one.
func shutdowns(root hw.Root, booted time.Time) (history, bool) {
	f, err := os.Open(root.VarPath("log", "wtmp"))
	if err != nil {
		return history{}, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return history{}, false
	}
	whole := info.Size() / recordSize
	first := max(0, whole-maxRecords)
	b := make([]byte, (whole-first)*recordSize)
	if _, err := f.ReadAt(b, first*recordSize); err != nil {
		return history{}, false
	}
	return decodeHistory(b, booted)
}

// clockOff is how far the clock may be off when the record of a boot is written.
const clockOff = 10 * time.Minute

// decodeHistory wants whole records. It finds nothing when the boot before this one isn't in them.
func decodeHistory(b []byte, booted time.Time) (history, bool) {
	var h history
	var here bool // the record of this boot was passed
	for ; len(b) >= recordSize; b = b[:len(b)-recordSize] {
		r := b[len(b)-recordSize:]
		user, _, _ := bytes.Cut(r[44:76], []byte{0})
		switch kind := binary.NativeEndian.Uint16(r); {
		case kind == runLevel && string(user) == "shutdown":
			h.orderly = true
		case kind != bootRecord:
		default:
			at := time.Unix(int64(binary.NativeEndian.Uint32(r[340:])), 0)
			if here || at.Before(booted.Add(-clockOff)) {
				h.before = at
				return h, true
			}
			here = true
		}
	}
	return history{}, false
}
