//go:build !race

// The race detector multiplies memory.

package gossip

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// The bound of the issue: 200 hosts of 50 domains in less than 40 MB of resident memory. It is measured in a process of its
// own, which hears all of it in messages as they come, before its watcher takes them. What the test binary itself takes is in it.
func TestTwoHundredHostsTakeLessThanFortyMegabytes(t *testing.T) {
	if os.Getenv("GOSSIP_RESIDENT") != "" {
		hearFleet(t)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "GOSSIP_RESIDENT=1")
	var sent bytes.Buffer
	for h := range 200 {
		for _, m := range EncodeRecords(fleetHost(t, h, 50), 1300) {
			sent.Write(binary.BigEndian.AppendUint32(nil, uint32(len(m))))
			sent.Write(m)
		}
	}
	cmd.Stdin = &sent
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, after, _ := strings.Cut(string(out), "VmHWM:")
	kb, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(after, "kB", 2)[0]))
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%.1f MB resident at most", float64(kb)/1e3)
	if kb > 40_000 {
		t.Errorf("%d kB resident", kb)
	}
}

func hearFleet(t *testing.T) {
	r := newReplica(t, "me", 2)
	w := &Watcher{ready: make(chan struct{}, 1), changed: map[Key]Record{}, purged: map[Key]Record{}, own: map[Key]Record{}}
	in := bufio.NewReader(os.Stdin)
	for {
		var size uint32
		if err := binary.Read(in, binary.BigEndian, &size); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		m := make([]byte, size)
		if _, err := io.ReadFull(in, m); err != nil {
			t.Fatal(err)
		}
		res, err := r.Handle(noon, "cmp-0", m)
		if err != nil {
			t.Fatal(err)
		}
		w.add(res)
	}
	if n := len(w.Take().Changed); n != 200*51 || r.Status().Records != n {
		t.Fatalf("%d records", n)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			_, _ = os.Stdout.WriteString(line)
		}
	}
}
