package ipmi

import (
	"errors"
	"time"
)

// inventory is what the maker wrote into a part (Platform Management FRU Information Storage Definition 1.0).
type inventory struct {
	chassis struct {
		kind         byte // as in SMBIOS
		part, serial string
	}
	board struct {
		made                      time.Time // zero: not said
		maker, name, serial, part string
	}
	product struct{ maker, name, part, version, serial, asset string }
	// damaged names the areas whose checksum is wrong or that end too early. What could be read of them is given all the same:
	// some vendors never write the sum.
	damaged []string
}

var errNoInventory = errors.New("no inventory is there")

// decodeInventory reads the bytes of an inventory, as far as they are there. The error says that they are none.
func decodeInventory(b []byte) (inventory, error) {
	var f inventory
	if len(b) < 8 || b[0]&0x0F != 1 || checksum(b[:8]) != 0 {
		return f, errNoInventory
	}
	area := func(name string, at byte) []byte {
		if at == 0 {
			return nil
		}
		a, whole := areaOf(b, 8*int(at))
		if !whole {
			f.damaged = append(f.damaged, name)
		}
		return a
	}
	const english = 25
	foreign := func(language byte) bool { return language != 0 && language != english }
	if a := area("chassis", b[2]); len(a) > 3 {
		f.chassis.kind = a[2]
		readFields(a[3:], false, &f.chassis.part, &f.chassis.serial)
	}
	if a := area("board", b[3]); len(a) > 6 {
		if minutes := int(a[3]) | int(a[4])<<8 | int(a[5])<<16; minutes != 0 {
			f.board.made = time.Date(1996, time.January, 1, 0, minutes, 0, 0, time.UTC)
		}
		readFields(a[6:], foreign(a[2]), &f.board.maker, &f.board.name, &f.board.serial, &f.board.part)
	}
	if a := area("product", b[4]); len(a) > 3 {
		p := &f.product
		readFields(a[3:], foreign(a[2]), &p.maker, &p.name, &p.part, &p.version, &p.serial, &p.asset)
	}
	return f, nil
}

// areaOf gives the area that begins there, without its checksum, and whether it is whole and the sum right.
func areaOf(b []byte, start int) ([]byte, bool) {
	if start+2 > len(b) {
		return nil, false
	}
	b = b[start:]
	n := 8 * int(b[1])
	if n == 0 || n > len(b) {
		return b, false
	}
	return b[:n-1], checksum(b[:n]) == 0
}

func checksum(b []byte) (sum byte) {
	for _, c := range b {
		sum += c
	}
	return sum
}

// readFields reads the fields of an area in order, up to the mark of their end or that of the bytes.
func readFields(b []byte, foreign bool, to ...*string) {
	const end = 0xC1
	for _, s := range to {
		if len(b) == 0 || b[0] == end {
			return
		}
		kind, n := b[0]>>6, int(b[0]&0x3F)
		if n > len(b)-1 {
			return
		}
		text := b[1 : 1+n]
		b = b[1+n:]
		if foreign && kind == textLatin && n%2 == 0 && !ascii(text) { // many who give another language write ASCII nevertheless
			*s = wide(text)
			continue
		}
		*s = decodeText(kind, text)
	}
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
