package ledger

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

const (
	formatVersion = 1
	flagDeflated  = 1
	// deflateFrom is the length of JSON in bytes below which deflating gains nothing worth its time.
	deflateFrom = 192
	// maxInflated bounds what a payload becomes: a bomb of 64 KiB would be 64 MiB.
	maxInflated = 1 << 20
	// maxUnpacked bounds what all alarms of one host become, in bytes of JSON: a thousand times what is held packed else.
	maxUnpacked = 32 << 20
	// maxPayload leaves room for the key and version of a record.
	maxPayload = gossip.MaxRecord - 2048
	// fewComments of an alarm leave room for the rest of it.
	fewComments = 5
)

var (
	errTooBig  = errors.New("too big for a record")
	errPayload = errors.New("payload")
)

// codec writes and reads payloads. It keeps the tables of the compressor, which are larger than all that passes it.
type codec struct {
	deflate *flate.Writer
	inflate io.ReadCloser
	buf     bytes.Buffer
	size    int // of the JSON that was decoded last
}

// encode writes a payload: version, flags, JSON. The error is errTooBig, or says what JSON can't hold (a year above 9999).
func (c *codec) encode(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	out := append([]byte{formatVersion, 0}, text...)
	if len(text) >= deflateFrom && len(text) <= maxInflated {
		if short := c.deflated(text); len(short) < len(text) {
			out = append([]byte{formatVersion, flagDeflated}, short...)
		}
	}
	if len(out) > maxPayload {
		return nil, fmt.Errorf("%w: it takes %d bytes, at most %d are allowed", errTooBig, len(out), maxPayload)
	}
	return out, nil
}

func (c *codec) deflated(text []byte) []byte {
	c.buf.Reset()
	if c.deflate == nil {
		c.deflate, _ = flate.NewWriter(&c.buf, flate.DefaultCompression) // fails for unknown levels only
	} else {
		c.deflate.Reset(&c.buf)
	}
	_, _ = c.deflate.Write(text) // into memory
	_ = c.deflate.Close()
	return c.buf.Bytes()
}

// decode reads a payload of this version. What it does not know in it, it passes over.
func (c *codec) decode(b []byte, into any) error {
	switch {
	case len(b) < 2:
		return fmt.Errorf("%w of %d bytes: it is cut off", errPayload, len(b))
	case b[0] != formatVersion:
		return fmt.Errorf("%w of version %d, this agent reads %d: upgrade it", errPayload, b[0], formatVersion)
	case b[1]&^flagDeflated != 0:
		return fmt.Errorf("%w with flags %#x, this agent knows %#x: upgrade it", errPayload, b[1], flagDeflated)
	}
	text := b[2:]
	if b[1]&flagDeflated != 0 {
		var err error
		if text, err = c.inflated(text); err != nil {
			return err
		}
	}
	c.size = len(text)
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", errPayload, err)
	}
	return nil
}

func (c *codec) inflated(short []byte) ([]byte, error) {
	if c.inflate == nil {
		c.inflate = flate.NewReader(bytes.NewReader(short))
	} else if err := c.inflate.(flate.Resetter).Reset(bytes.NewReader(short), nil); err != nil { //nolint:forcetypeassert // documented
		return nil, fmt.Errorf("%w: %w", errPayload, err)
	}
	c.buf.Reset()
	n, err := c.buf.ReadFrom(io.LimitReader(c.inflate, maxInflated+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: inflate: %w", errPayload, err)
	case n > maxInflated:
		return nil, fmt.Errorf("%w: more than %d bytes when inflated", errPayload, maxInflated)
	}
	return c.buf.Bytes(), nil
}

// encodeAlarm writes an alarm; old comments and the longer of its lists are cut as far as needed, and the record says so.
func (c *codec) encodeAlarm(ch correlate.Change, over bool) ([]byte, error) {
	p := Alarm{Change: ch, Over: over}
	for {
		b, err := c.encode(p)
		if !errors.Is(err, errTooBig) {
			return b, err
		}
		a := *p.Alarm
		switch {
		case len(a.Comments) > fewComments:
			a.Comments = a.Comments[len(a.Comments)-len(a.Comments)/2:]
		case len(a.Affected)+len(a.AtRisk)+len(a.Correlated)+len(a.NeededBy) > 0:
			p.AffectedTotal, p.AtRiskTotal = len(ch.Alarm.Affected), len(ch.Alarm.AtRisk)
			a.Affected, a.AtRisk = a.Affected[:len(a.Affected)*3/4], a.AtRisk[:len(a.AtRisk)*3/4]
			a.Correlated, a.NeededBy = a.Correlated[:len(a.Correlated)*3/4], a.NeededBy[:len(a.NeededBy)*3/4]
		case a.Evidence != nil:
			a.Evidence = nil
		case a.Comments != nil:
			a.Comments = nil
		case len(a.Text) > 1024:
			a.Text = strings.ToValidUTF8(a.Text[:1024], "") + " …"
		default:
			return nil, err
		}
		p.Alarm = &a
	}
}

// encodeDomain writes a domain; its ports are cut as far as needed, and the record says so.
func (c *codec) encodeDomain(d Domain) ([]byte, error) {
	total := len(d.Ports)
	for {
		b, err := c.encode(d)
		if !errors.Is(err, errTooBig) || len(d.Ports) == 0 {
			return b, err
		}
		d.Ports, d.PortsTotal = d.Ports[:len(d.Ports)*3/4], total
	}
}

// decodeAlarm reads one and holds it against its key: a host speaks of its own alarms only.
func (c *codec) decodeAlarm(space, id string, b []byte) (*Alarm, error) {
	var p Alarm
	if err := c.decode(b, &p); err != nil {
		return nil, err
	}
	switch a := p.Alarm; {
	case a == nil || a.ID != id || id == "":
		return nil, fmt.Errorf("%w: it is not alarm %q", errPayload, id)
	case a.Key.Home != space:
		return nil, fmt.Errorf("%w: alarm %q is of host %q", errPayload, id, a.Key.Home)
	case a.Revision == correlate.Revision{}:
		return nil, fmt.Errorf("%w: alarm %q has no revision", errPayload, id)
	case a.Last != correlate.Raised && a.Last != correlate.Changed && a.Last != correlate.Cleared:
		return nil, fmt.Errorf("%w: alarm %q: transition %q is not known", errPayload, id, a.Last)
	case a.Severity > correlate.SeverityCritical || a.State > correlate.StateFailed:
		return nil, fmt.Errorf("%w: alarm %q: severity %d or state %d is not known", errPayload, id, a.Severity, a.State)
	}
	for _, list := range [][]correlate.Affected{p.Alarm.Affected, p.Alarm.AtRisk} {
		for _, hit := range list {
			if hit.State > correlate.StateUnknown {
				return nil, fmt.Errorf("%w: alarm %q: state %d of %q is not known", errPayload, id, hit.State, hit.Resource)
			}
		}
	}
	p.size = c.size
	return &p, nil
}

// pairID names what a subscription has of an alarm; with no alarm, what it has of this host.
func pairID(subscription, alarm string) string { return subscription + "/" + alarm }

func splitPair(id string) (subscription, alarm string) {
	subscription, alarm, _ = strings.Cut(id, "/")
	return subscription, alarm
}

func (c *codec) decodeDelivery(id string, b []byte) (progress, error) {
	var p Delivery
	if err := c.decode(b, &p); err != nil {
		return progress{}, err
	}
	d := progress{Delivery: p}
	if !strings.Contains(id, "/") {
		return d, fmt.Errorf("%w: delivery %q: want subscription/alarm", errPayload, id)
	}
	if len(p.Left) > maxLeft {
		return d, fmt.Errorf("%w: delivery %q: %d have left, at most %d are allowed", errPayload, id, len(p.Left), maxLeft)
	}
	var err error
	if d.told, err = revision(p.Told); err != nil {
		return d, err
	}
	d.owed, err = revision(p.Owed)
	return d, err
}

func (c *codec) decodeReceipt(id string, b []byte) (receipt, error) {
	var p Receipt
	if err := c.decode(b, &p); err != nil {
		return receipt{}, err
	}
	r := receipt{home: p.Home}
	var err error
	if r.told, err = revision(p.Told); err != nil {
		return r, err
	}
	if !strings.Contains(id, "/") || r.home == "" || r.told == (correlate.Revision{}) {
		return r, fmt.Errorf("%w: receipt %q: want subscription/alarm, a home and a revision", errPayload, id)
	}
	return r, nil
}

func revision(s string) (correlate.Revision, error) {
	if s == "" {
		return correlate.Revision{}, nil
	}
	r, err := correlate.ParseRevision(s)
	if err != nil {
		return r, fmt.Errorf("%w: %w", errPayload, err)
	}
	return r, nil
}

// progress and receipt are the payloads with their revisions read.
type (
	progress struct {
		Delivery
		told, owed correlate.Revision
	}
	receipt struct {
		home string
		told correlate.Revision
	}
)

// word is one that was said about an alarm.
type word struct {
	Word
	version gossip.Version
	ordered bool // the engine has it
}
