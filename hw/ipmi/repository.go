package ipmi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/paramedic-ha/paramedic/hw"
)

const (
	// maxRecords bounds a repository; real ones have some hundred records.
	maxRecords = 4096
	// again is how often a read is begun anew because the reservation was lost or the repository changed meanwhile.
	again = 10
	// sdrHeader is what each record begins with: id, version, kind, length of the rest (IPMI 2.0, 43.1).
	sdrHeader = 5
)

// chunks are the sizes in which parts of a record are asked for, the next when the BMC's buffer is smaller.
var chunks = [...]int{64, 32, 24, 16, 8, 5}

// repository is where sensor data records come from: the SDR repository, or the device's own (IPMI 2.0, 33.12 and 35.2 ff.).
type repository struct {
	netFn               byte
	info, reserve, read byte
	reservation         [2]byte
	chunk               int // index in chunks
	whole               bool
	ask                 func(context.Context, Request) ([]byte, error)
}

func sdrRepository(ask func(context.Context, Request) ([]byte, error)) *repository {
	return &repository{netFn: netStorage, info: 0x20, reserve: 0x22, read: 0x23, whole: true, ask: ask}
}

func deviceSDRs(ask func(context.Context, Request) ([]byte, error)) *repository {
	return &repository{netFn: netSensor, info: 0x20, reserve: 0x22, read: 0x21, whole: true, ask: ask}
}

// stamp is what the BMC says of the repository as a whole, which changes with it. dated is false when it keeps no times: then
// a change may go unnoticed, and what was read before proves nothing.
func (r *repository) stamp(ctx context.Context) (stamp []byte, dated bool, err error) {
	b, err := r.ask(ctx, Request{NetFn: r.netFn, Cmd: r.info})
	switch {
	case err != nil:
		return nil, false, fmt.Errorf("ask what the sensor data repository holds: %w", err)
	case r.netFn == netSensor: // sensors, flags, and when the population is dynamic, when it changed
		if len(b) < 2 {
			return nil, false, fmt.Errorf("ask what the device's sensor data hold: %d bytes", len(b))
		}
		return b, b[1]&0x80 != 0 && len(b) >= 6, nil
	case len(b) < 13:
		return nil, false, fmt.Errorf("ask what the sensor data repository holds: %d bytes", len(b))
	}
	added, erased := binary.LittleEndian.Uint32(b[5:]), binary.LittleEndian.Uint32(b[9:])
	never := func(t uint32) bool { return t == 0 || t == 0xFFFFFFFF }
	return b[:13], !never(added) || !never(erased), nil
}

// records reads all of it, as it was at one time.
func (r *repository) records(ctx context.Context) ([][]byte, []byte, bool, error) {
	for range again {
		before, dated, err := r.stamp(ctx)
		if err != nil {
			return nil, nil, false, err
		}
		all, err := r.walk(ctx)
		if err != nil {
			return nil, nil, false, err
		}
		after, _, err := r.stamp(ctx)
		if err != nil {
			return nil, nil, false, err
		}
		if bytes.Equal(before, after) {
			return all, after, dated, nil
		}
	}
	return nil, nil, false, errors.New("read the sensor data repository: it changes all the time")
}

func (r *repository) walk(ctx context.Context) ([][]byte, error) {
	if err := r.newReservation(ctx); err != nil {
		return nil, err
	}
	var all [][]byte
	seen := make(map[uint16]bool)
	for id := uint16(0); id != 0xFFFF && len(all) < maxRecords && !seen[id]; {
		seen[id] = true
		record, next, err := r.record(ctx, id)
		if err != nil {
			if id == 0 && errors.Is(err, errNotPresent) {
				return nil, nil // empty
			}
			return nil, fmt.Errorf("read sensor data record %04Xh: %w", id, err)
		}
		all = append(all, record)
		id = next
	}
	return all, nil
}

// newReservation gets one; a BMC that knows none does without.
func (r *repository) newReservation(ctx context.Context) error {
	b, err := r.ask(ctx, Request{NetFn: r.netFn, Cmd: r.reserve})
	var code CompletionError
	switch {
	case errors.As(err, &code):
		r.reservation = [2]byte{}
		return nil
	case err != nil:
		return fmt.Errorf("reserve the sensor data repository: %w", err)
	case len(b) >= 2:
		r.reservation = [2]byte{b[0], b[1]}
	}
	return nil
}

var errTorn = errors.New("the answers don't fit together")

// record reads one record: as a whole when the BMC can, else in parts as large as it can.
func (r *repository) record(ctx context.Context, id uint16) (record []byte, next uint16, err error) {
	for range again {
		record, next, err = r.tryRecord(ctx, id)
		var code CompletionError
		switch {
		case err == nil:
			return record, next, nil
		case errors.Is(err, errReservation):
			if err := r.newReservation(ctx); err != nil {
				return nil, 0, err
			}
		case errors.As(err, &code) && tooLarge(code) && r.smaller():
		case errors.Is(err, errTorn) && r.smaller():
		default:
			return nil, 0, err
		}
	}
	return nil, 0, err
}

// tooLarge: the codes by which BMCs say that they can't return so much at once. FFh is that of some that don't know better.
func tooLarge(code CompletionError) bool {
	return code == errTooMany || code == errLong || code == errShort || code == errRange || code == errUnspecified
}

func (r *repository) smaller() bool {
	if r.whole {
		r.whole = false
		return true
	}
	r.chunk = min(r.chunk+1, len(chunks))
	return r.chunk < len(chunks)
}

func (r *repository) tryRecord(ctx context.Context, id uint16) (record []byte, next uint16, err error) {
	if r.whole {
		record, next, err = r.part(ctx, id, 0, 0xFF)
		if err == nil && (len(record) < sdrHeader || len(record) < sdrHeader+int(record[4])) {
			err = errTorn
		}
		return record, next, err
	}
	if record, next, err = r.part(ctx, id, 0, sdrHeader); err != nil {
		return nil, 0, err
	}
	if len(record) != sdrHeader {
		return nil, 0, errTorn
	}
	for length := sdrHeader + int(record[4]); len(record) < length; {
		want := min(chunks[r.chunk], length-len(record))
		b, _, err := r.part(ctx, id, len(record), want)
		if err != nil {
			return nil, 0, err
		}
		if len(b) == 0 || len(b) > want {
			return nil, 0, errTorn
		}
		record = append(record, b...)
	}
	return record, next, nil
}

func (r *repository) part(ctx context.Context, id uint16, offset, n int) ([]byte, uint16, error) {
	if offset > 0xFF {
		return nil, 0, errTorn
	}
	b, err := r.ask(ctx, Request{NetFn: r.netFn, Cmd: r.read, Data: []byte{
		r.reservation[0], r.reservation[1], byte(id), byte(id >> 8), byte(offset), byte(n),
	}})
	if err != nil {
		return nil, 0, err
	}
	if len(b) < 2 {
		return nil, 0, errTorn
	}
	return slices.Clone(b[2:]), binary.LittleEndian.Uint16(b), nil
}

// cache is what was read last, in a file: of which device, and which stamp it had.
type cache struct {
	Device  string   `json:"device"`
	Stamp   string   `json:"stamp"`
	Sum     string   `json:"sum"`
	Records [][]byte `json:"records"`
}

func (c *cache) sum() string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s\n", c.Device, c.Stamp)
	for _, r := range c.Records {
		fmt.Fprintf(h, "%x\n", r)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// loadCache gives the records when the file has those of this device and stamp, whole; nil otherwise.
func loadCache(path string, device, stamp []byte) ([][]byte, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var c cache
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("read the sensor data that were kept: %w", err)
	}
	if c.Sum != c.sum() {
		return nil, errors.New("read the sensor data that were kept: they are damaged")
	}
	if c.Device != hex.EncodeToString(device) || c.Stamp != hex.EncodeToString(stamp) {
		return nil, nil
	}
	return c.Records, nil
}

func saveCache(path string, device, stamp []byte, records [][]byte) error {
	c := cache{Device: hex.EncodeToString(device), Stamp: hex.EncodeToString(stamp), Records: records}
	c.Sum = c.sum()
	return save(path, c)
}

// save keeps a value in a file.
func save(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return hw.Replace(path, b)
}
