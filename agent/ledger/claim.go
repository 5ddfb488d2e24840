package ledger

import (
	"cmp"
	"slices"
	"time"
)

// claim is what another host says of a domain: what decides whose it is, and the payload of its record for who asks for the
// rest. There are ten thousand of them where the rest is asked for once an hour, and unpacked it takes three times the memory.
type claim struct {
	since    time.Time
	inactive bool
	payload  []byte // can be decoded; it is the replica's own, held once
}

// precedes says whether this claim beats another one's.
func (c claim) precedes(o claim) bool {
	if c.inactive != o.inactive {
		return !c.inactive
	}
	return c.since.After(o.since)
}

func (c *codec) decodeClaim(payload []byte) (claim, error) {
	var d Domain
	if err := c.decode(payload, &d); err != nil {
		return claim{}, err
	}
	return claim{d.Since, d.Inactive, payload}, nil
}

// ReadDomains unpacks what Domains gave, and orders it by UUID. It needs no ledger, and so not its lock.
func ReadDomains(views []DomainView) {
	slices.SortFunc(views, func(a, b DomainView) int { return cmp.Compare(a.UUID, b.UUID) })
	var c codec
	for i := range views {
		v := &views[i]
		_ = c.decode(v.payload, &v.Domain) // it went well before
		v.payload = nil
	}
}
