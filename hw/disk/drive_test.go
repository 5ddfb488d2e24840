package disk

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
)

// recorded gives the sectors of testdata/smart.txtar by drive and part.
func recorded(t testing.TB) map[string][]byte {
	t.Helper()
	archive, err := txtar.ParseFile(filepath.Join("testdata", "smart.txtar"))
	if err != nil {
		t.Fatal(err)
	}
	sectors := make(map[string][]byte)
	for _, f := range archive.Files {
		b, err := hex.DecodeString(strings.ReplaceAll(string(f.Data), "\n", ""))
		if err != nil {
			t.Fatal(err)
		}
		sectors[f.Name] = b
	}
	return sectors
}

// returned is sense data of descriptor format with the registers of an ATA drive (SAT-3, 12.2.6).
func returned(status, code, count, mid, high byte) []byte {
	return []byte{
		0x72, senseRecovered, 0x00, 0x1d, 0, 0, 0, 14,
		0x09, 12, 0, code, 0, count, 0, 0, 0, mid, 0, high, 0x40, status,
	}
}

// ataDrive answers as a drive does.
type ataDrive struct {
	power        byte
	mid, high    byte
	data, limits []byte
	asked        []string
}

func (d *ataDrive) command(cdb, into []byte) ([]byte, error) {
	what := fmt.Sprintf("%02x/%02x", cdb[14], cdb[4])
	d.asked = append(d.asked, what)
	switch what {
	case "e5/00":
		return returned(0x50, 0, d.power, 0, 0), nil
	case "b0/da":
		return returned(0x50, 0, 0, d.mid, d.high), nil
	case "b0/d0":
		copy(into, d.data)
	case "b0/d1":
		copy(into, d.limits)
	}
	return nil, nil
}

// wrong gives what a report complains of.
func wrong(r *report) string {
	var all []string
	for _, c := range r.complaints {
		if c.failed {
			all = append(all, fmt.Sprintf("%s: %s", c.condition, c.text))
		}
	}
	return strings.Join(all, "\n")
}

func TestRecordedDrivesAreJudgedAsTheyWere(t *testing.T) {
	sectors := recorded(t)
	for drive, want := range map[string]string{
		"Maxtor_96147H8--BAC51KJ0--2":     "disk-failing: it expects to fail (SMART); attributes below their limits: 10 is 212 of at least 223",
		"WDC_WD5000AAKS--00TMA0-12.01C01": "disk-failing: pending_sectors: 529",
		"SAMSUNG_HD501LJ--CR100-12":       "",
		"FUJITSU_MHY2120BH--0085000B":     "",
		"INTEL_SSDSA2MH080G1GC--045C8820": "",
		"ST9160821AS--3.CLH":              "",
	} {
		d := &ataDrive{power: 0xff, mid: 0x4f, high: 0xc2, data: sectors[drive+"/data"], limits: sectors[drive+"/limits"]}
		if strings.Contains(want, "SMART") { // so this one answered
			d.mid, d.high = 0xf4, 0x2c
		}
		r, err := askATA(d.command, 10)
		if err != nil {
			t.Errorf("%s: %v", drive, err)
			continue
		}
		if got := wrong(r); got != want {
			t.Errorf("%s\n got %s\nwant %s", drive, got, want)
		}
	}
}

func TestDriveThatSleepsIsNotAskedMore(t *testing.T) {
	for _, power := range []byte{0, 1} {
		d := &ataDrive{power: power}
		if _, err := askATA(d.command, 10); !errors.Is(err, errAsleep) || len(d.asked) != 1 {
			t.Errorf("power %#x: %v after %q", power, err, d.asked)
		}
	}
}

func TestAttributesWithAWrongSumDoNotCount(t *testing.T) {
	data := recorded(t)["WDC_WD5000AAKS--00TMA0-12.01C01/data"]
	data[9]++
	r, err := askATA((&ataDrive{power: 0xff, mid: 0x4f, high: 0xc2, data: data, limits: make([]byte, ataSize)}).command, 10)
	if err != nil || wrong(r) != "" {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDriveWithoutSMARTIsLeftAlone(t *testing.T) {
	for name, sense := range map[string][]byte{
		"aborts":                    returned(0x51, 0x04, 0xff, 0, 0),
		"adapter passes nothing on": {0x70, 0, senseIllegal, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0},
	} {
		if _, err := askATA(func(_, _ []byte) ([]byte, error) { return sense, nil }, 10); !errors.Is(err, errUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRegistersComeInEitherFormat(t *testing.T) {
	want := registers{error: 0, status: 0x50, count: 0xff, mid: 0x4f, high: 0xc2}
	fixed := []byte{0x70, 0, senseRecovered, 0, 0x50, 0x40, 0xff, 10, 0, 0, 0x4f, 0xc2, 0x00, 0x1d, 0, 0, 0, 0}
	for _, sense := range [][]byte{fixed, returned(0x50, 0, 0xff, 0x4f, 0xc2)} {
		if got, err := decodeRegisters(sense); got != want || err != nil {
			t.Errorf("%x is %+v, %v", sense, got, err)
		}
	}
	for _, sense := range [][]byte{nil, {0x72}, fixed[:13], returned(0, 0, 0, 0, 0)[:20]} {
		if got, err := decodeRegisters(sense); err == nil {
			t.Errorf("%x is %+v", sense, got)
		}
	}
}

func TestExceptionsOfSCSIMeanWhatTheStandardSays(t *testing.T) {
	page := func(code, qualifier, celsius byte) []byte {
		return []byte{informationalPage, 0, 0, 8, 0, 0, 3, 4, code, qualifier, celsius, 0}
	}
	for _, c := range []struct {
		sense, page []byte
		want        string
	}{
		{nil, page(0, 0, 33), ""},
		{nil, page(0x5d, 0x10, 33), "disk-failing: it expects to fail (code 5d/10)"},
		{nil, page(0x0b, 0x01, 70), "disk-temperature: it is too hot"},
		{nil, page(0x0b, 0x06, 33), "disk-failing: it expects to fail (code 0b/06)"},
		{[]byte{0x72, senseIllegal, 0x24, 0, 0, 0, 0, 0}, nil, errUnsupported.Error()},
		{[]byte{0x72, senseNotReady, 0x04, 0x02, 0, 0, 0, 0}, nil, errAsleep.Error()},
		{[]byte{0x72, 0x4, 0x44, 0, 0, 0, 0, 0}, nil, "read its log: sense key 4, code 4400"},
		{nil, make([]byte, 64), errUnsupported.Error()},
	} {
		r, err := askSCSI(func(_, into []byte) ([]byte, error) {
			copy(into, c.page)
			return c.sense, nil
		})
		var got string
		if err != nil {
			got = err.Error()
		} else {
			got = wrong(r)
		}
		if got != c.want {
			t.Errorf("%x with %x\n got %s\nwant %s", c.page, c.sense, got, c.want)
		}
	}
}

// nvmeLog is a health log with some bytes changed, of a drive at 35 °C whose limit is 70 °C.
func nvmeLog(change func(b []byte)) nvmeCommand {
	log, identity := make([]byte, nvmeHealthSize), make([]byte, nvmeIdentSize)
	binary.LittleEndian.PutUint16(log[1:], 308)
	log[3], log[4], log[5] = 100, 10, 3
	binary.LittleEndian.PutUint16(identity[266:], 343)
	copy(identity[4:], "S12345              ")
	change(log)
	return func(opcode uint8, _, cdw10 uint32, into []byte) error {
		switch {
		case opcode == nvmeGetLogPage && cdw10 == 0x007f0002:
			copy(into, log)
		case opcode == nvmeIdentify && cdw10 == 1:
			copy(into, identity)
		default:
			return errInvalidField
		}
		return nil
	}
}

func TestHealthLogOfNVMeMeansWhatTheStandardSays(t *testing.T) {
	for _, c := range []struct {
		change func(b []byte)
		want   string
	}{
		{func([]byte) {}, ""},
		{func(b []byte) { b[0], b[3] = 1, 5 }, "disk-failing: 5% of its spare capacity is left, its limit is 10%"},
		{func(b []byte) { b[0] = 2 }, "disk-temperature: it is at 35 °C, its limit is 70 °C"},
		{func(b []byte) { binary.LittleEndian.PutUint16(b[1:], 345) }, "disk-temperature: it is at 72 °C, its limit is 70 °C"},
		{func(b []byte) { b[0] = 4 }, "disk-failing: it is not reliable any more: errors of its media, or inside"},
		{func(b []byte) { b[0] = 8 }, "disk-failed: its media is read-only"},
		{func(b []byte) { b[0] = 0x10 }, "disk-failing: its volatile memory would be lost with the power"},
		{func(b []byte) { b[5] = 104 }, "disk-failing: 104% of the life that its vendor expects is used up"},
	} {
		r, err := askNVMe(nvmeLog(c.change))
		if err != nil {
			t.Fatal(err)
		}
		if got := wrong(r); got != c.want {
			t.Errorf("got %s\nwant %s", got, c.want)
		}
		if r.evidence["serial"] != "S12345" {
			t.Errorf("evidence %v", r.evidence)
		}
	}
}

func TestAlarmsOfADriveStandUntilItSaysThatItIsWell(t *testing.T) {
	b := newBench(t)
	warning := byte(8)
	var err error
	asked := 0
	b.watch.config.Health = time.Minute
	b.watch.drives.asker = func(name string, kind language, _ uint64) (*report, error) {
		asked++
		if name != "nvme0n1" || kind != nvme {
			t.Errorf("asked %s in %d", name, kind)
		}
		if err != nil {
			return nil, err
		}
		return askNVMe(nvmeLog(func(b []byte) { b[0] = warning }))
	}
	answered := func() {
		b.poll()
		<-b.watch.config.Prompt
		b.poll()
	}
	answered()
	b.want("critical disk/nvme0n1 disk-failed nvme")
	b.poll()
	if asked != 1 {
		t.Errorf("asked %d times within a minute", asked)
	}
	err = errors.New("no answer")
	b.now = b.now.Add(time.Minute)
	answered()
	b.want("critical disk/nvme0n1 disk-failed nvme")
	err, warning = nil, 0
	b.watch.drives.hurry("nvme0")
	answered()
	b.want()
	err = fs.ErrPermission
	b.watch.drives.hurry("")
	answered()
	b.want()
	if b.health.Sight != hw.SightDegraded {
		t.Errorf("health %+v", b.health)
	}
}

func TestDriveThatDoesNotAnswerIsAnAlarmAndAskedOnce(t *testing.T) {
	b := newBench(t)
	release := make(chan struct{})
	asked := 0
	b.watch.config.Health = time.Second
	b.watch.drives.asker = func(string, language, uint64) (*report, error) {
		asked++
		<-release
		return new(report), nil
	}
	b.poll()
	b.want()
	for range 10 {
		b.poll()
	}
	b.want("major disk/nvme0n1 disk-silent nvme")
	close(release)
	<-b.watch.config.Prompt
	b.watch.config.Health = time.Hour
	b.poll()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	b.want()
}

func TestPromptsOfTheKernelNameWhoSpeaks(t *testing.T) {
	for message, want := range map[string]string{
		"remove@/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda\x00ACTION=remove\x00SUBSYSTEM=block\x00": "true ",
		"change@/devices/pci0000:00/0000:00:04.0/nvme/nvme0\x00ACTION=change\x00SUBSYSTEM=nvme\x00NVME_AEN=0x020100\x00":           "true nvme0",
		"add@/devices/virtual/net/tap0\x00ACTION=add\x00SUBSYSTEM=net\x00":                                                         "false ",
		"": "false ",
	} {
		ours, drive := concerns([]byte(message))
		if got := fmt.Sprintf("%t %s", ours, drive); got != want {
			t.Errorf("%q: %s", message, got)
		}
	}
}

func TestAnswerOfADriveHasTheNextPollAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ds := newDrives(hw.NewPrompt())
		ds.asker = func(string, language, uint64) (*report, error) { panic("a decoder that fails") }
		d := &drive{busy: true}
		go ds.question("nvme0n1", nvme, 1, d)
		<-ds.done
		if e := d.tell(&device{name: "nvme0n1", id: "disk/nvme0n1"}, time.Now()); d.busy || len(e) != len(told) || e[0].Status != correlate.StatusUnknown {
			t.Errorf("drive %+v tells %+v", d, e)
		}
	})
}

func FuzzRegisters(f *testing.F) {
	f.Add(returned(0x50, 0, 0xff, 0x4f, 0xc2))
	f.Add([]byte{0x70, 0, 1, 0, 0x50, 0x40, 0xff, 10, 0, 0, 0x4f, 0xc2, 0x00, 0x1d})
	f.Fuzz(func(t *testing.T, sense []byte) {
		senseKey(sense)
		if r, err := decodeRegisters(sense); err != nil && r != (registers{}) {
			t.Errorf("%x is %+v and %v", sense, r, err)
		}
	})
}

func FuzzAttributes(f *testing.F) {
	sectors := recorded(f)
	f.Add(sectors["WDC_WD5000AAKS--00TMA0-12.01C01/data"], sectors["WDC_WD5000AAKS--00TMA0-12.01C01/limits"])
	f.Fuzz(func(t *testing.T, data, limits []byte) {
		if len(data) == ataSize { // let it past the sum
			data[ataSize-1] -= sum(data)
		}
		all, err := decodeAttributes(data, limits)
		if len(all) > 30 || err != nil && all != nil {
			t.Errorf("%d attributes, %v", len(all), err)
		}
		ataHealth{attributes: all}.report(10)
	})
}

func FuzzInformational(f *testing.F) {
	f.Add([]byte{informationalPage, 0, 0, 8, 0, 0, 3, 4, 0x5d, 0x10, 33, 0})
	f.Fuzz(func(_ *testing.T, page []byte) {
		if i, err := decodeInformational(page); err == nil {
			i.report()
		}
	})
}

func FuzzHealthLog(f *testing.F) {
	f.Add(make([]byte, nvmeHealthSize), 343)
	f.Fuzz(func(t *testing.T, log []byte, hotFrom int) {
		h, err := decodeNVMeHealth(log)
		if err != nil {
			return
		}
		if r := h.report(hotFrom); len(r.complaints) != 3 {
			t.Errorf("complaints %+v", r.complaints)
		}
	})
}

func FuzzUevent(f *testing.F) {
	f.Add([]byte("change@/devices/x/nvme/nvme0\x00SUBSYSTEM=nvme\x00NVME_AEN=0x1\x00"))
	f.Fuzz(func(_ *testing.T, message []byte) { concerns(message) })
}
