package ipmi

import (
	"context"
	"encoding/binary"
	"maps"

	"github.com/paramedic-ha/paramedic/correlate"
)

const (
	commandInventoryArea byte = 0x10
	commandInventoryRead byte = 0x11

	// inventorySize bounds what is read of one inventory, inventoryChunk what is asked for at once: any BMC can give that.
	inventorySize  = 1024
	inventoryChunk = 16
)

// inventories reads, once, what the makers wrote into the mainboard and the power supplies.
func (w *watch) inventories(ctx context.Context) error {
	if w.parts != nil || !w.controller.inventory {
		return nil
	}
	w.parts = make(map[correlate.ID]map[string]string)
	wanted := map[byte]correlate.ID{0: self}
	for _, d := range w.devices {
		if d.kind != recordFRU || !d.logical {
			continue
		}
		for _, p := range w.points {
			if p.id.Kind() == correlate.KindPSU && p.entity == d.entity {
				wanted[d.address] = p.id
			}
		}
	}
	for number, id := range wanted {
		b, err := w.inventory(ctx, number)
		if err != nil {
			w.parts = nil
			return err
		}
		f, unreadable := decodeInventory(b)
		if unreadable != nil {
			continue
		}
		facts := make(map[string]string)
		for name, value := range map[string]string{
			"board": f.board.name, "board_maker": f.board.maker, "board_serial": f.board.serial, "board_part": f.board.part,
			"product_name": f.product.name, "maker": f.product.maker, "serial": f.product.serial, "part": f.product.part,
			"asset": f.product.asset, "chassis_serial": f.chassis.serial,
		} {
			if value != "" {
				facts[name] = value
			}
		}
		w.parts[id] = facts
	}
	d := correlate.Delta{Source: w.Name()}
	for id := range w.parts {
		d.Set = append(d.Set, w.resource(id))
	}
	if len(d.Set) == 0 {
		return nil
	}
	return w.sink.Emit(ctx, d)
}

// inventory reads the bytes of one, as far as the BMC gives them.
func (w *watch) inventory(ctx context.Context, number byte) ([]byte, error) {
	b, err := w.ask(ctx, netStorage, commandInventoryArea, number)
	if err != nil || len(b) < 3 {
		return nil, err
	}
	unit := 1 // of offsets and counts: bytes or words
	if b[2]&1 != 0 {
		unit = 2
	}
	size := min(int(binary.LittleEndian.Uint16(b)), inventorySize)
	var all []byte
	for len(all) < size {
		at, n := len(all)/unit, max(1, min(inventoryChunk, size-len(all))/unit)
		b, err := w.ask(ctx, netStorage, commandInventoryRead, number, byte(at), byte(at>>8), byte(n))
		if err != nil {
			return nil, err
		}
		if len(b) < 2 || int(b[0])*unit != len(b)-1 {
			break
		}
		all = append(all, b[1:]...)
	}
	return all, nil
}

// resource is a part, or the BMC, with what is known of it.
func (w *watch) resource(id correlate.ID) correlate.Resource {
	if id == self {
		facts := maps.Clone(w.facts)
		maps.Copy(facts, w.parts[self])
		return correlate.Resource{ID: self, Name: "BMC", Facts: facts}
	}
	r := correlate.Resource{ID: id, Facts: make(map[string]string)}
	for _, p := range w.points {
		if p.id != id {
			continue
		}
		if r.Name == "" {
			r.Name = p.name
			r.Facts["sensor"], r.Facts["entity"] = p.name, p.entity.String()
		}
		if p.absent {
			r.Facts["present"] = "false"
		}
	}
	maps.Copy(r.Facts, w.parts[id])
	return r
}
