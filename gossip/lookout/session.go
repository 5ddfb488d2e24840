package lookout

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// keyInfo tells the keys of these frames from others that are derived from the gossip key.
const keyInfo = "paramedic watch 1"

// deriveSeal is the cipher of one session under one gossip key.
func deriveSeal(key []byte, id sessionID) (cipher.AEAD, error) {
	derived, err := hkdf.Key(sha256.New, key, id[:], keyInfo, 32)
	if err != nil {
		return nil, fmt.Errorf("derive the key of a session: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("make the cipher of a session: %w", err)
	}
	seal, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make the seal of a session: %w", err)
	}
	return seal, nil
}

func sealNonce(sequence uint64) [12]byte {
	var n [12]byte
	binary.BigEndian.PutUint64(n[4:], sequence)
	return n
}

// window remembers which of the last 64 sequences were seen.
type window struct {
	top  uint64 // the highest one
	seen uint64 // bit i: top - i
}

// fresh says that a sequence was not seen and is not too old to know.
func (w *window) fresh(sequence uint64) bool {
	switch {
	case w.seen == 0 || sequence > w.top:
		return true
	case w.top-sequence >= 64:
		return false
	}
	return w.seen&(1<<(w.top-sequence)) == 0
}

// mark remembers a sequence that is fresh.
func (w *window) mark(sequence uint64) {
	if w.seen != 0 && sequence <= w.top {
		w.seen |= 1 << (w.top - sequence)
		return
	}
	if by := sequence - w.top; w.seen == 0 || by >= 64 {
		w.seen = 0
	} else {
		w.seen <<= by
	}
	w.seen |= 1
	w.top = sequence
}

// session is one run of an agent, as one that receives from it knows it.
type session struct {
	id      sessionID
	key     []byte
	seal    cipher.AEAD // nil without keys
	window  window
	host    string
	started int64
	boot    [16]byte

	challenge  nonce // what it must answer before it is believed
	challenged time.Time
	answered   time.Time // when we last answered a challenge of it
	heard      time.Time
	waiting    *watch.Packet // the last that came before it was believed
}

// peer is what is known of a host's sessions.
type peer struct {
	current    *session   // the one that is believed
	candidates []*session // those that have not answered our challenge yet, oldest first
	boot       [16]byte   // of the last session that was believed
	from       netip.AddrPort
}

const (
	// maxCandidates of one host. More than one come up when somebody replays old sessions, or restarts the agent in a loop.
	maxCandidates = 8
	// challengeEvery is how often one session is challenged, and answered.
	challengeEvery = 20 * time.Millisecond
	// reignOf is how long after it was last heard a session keeps those that say they began earlier from being challenged. They
	// may be true: the clock of the host was set back in between.
	reignOf = time.Second
	// maxTrials is how many frames of unknown sessions are tried each second, and how many more of those that come from an
	// address of a host that we know. A trial costs some microseconds for each key.
	maxTrials = 1000
)

// sessions opens and refuses frames. It belongs to the owner of the sockets.
type sessions struct {
	own     sessionID
	plain   bool
	keys    [][]byte
	peers   map[string]*peer // by the name of each host that there is
	byID    map[sessionID]*session
	trials  *rate.Limiter // of frames from anywhere
	trialsK *rate.Limiter // of frames from known addresses
}

func newSessions(own sessionID, keys [][]byte) *sessions {
	return &sessions{
		own: own, plain: len(keys) == 0, keys: keys, peers: map[string]*peer{}, byID: map[sessionID]*session{},
		trials: rate.NewLimiter(maxTrials, maxTrials), trialsK: rate.NewLimiter(maxTrials, maxTrials),
	}
}

// setHosts forgets those that are no longer there.
func (s *sessions) setHosts(names []string) {
	there := make(map[string]*peer, len(names))
	for _, name := range names {
		if there[name] = s.peers[name]; there[name] == nil {
			there[name] = &peer{}
		}
	}
	for id, x := range s.byID {
		if there[x.host] == nil {
			delete(s.byID, id)
		}
	}
	s.peers = there
}

// setKeys ends the sessions whose keys are gone.
func (s *sessions) setKeys(keys [][]byte) {
	s.keys = keys
	for _, x := range s.byID {
		if !slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, x.key) }) {
			s.drop(x)
		}
	}
}

func (s *sessions) drop(x *session) {
	delete(s.byID, x.id)
	p := s.peers[x.host]
	if p == nil {
		return
	}
	if p.current == x {
		p.current = nil
	}
	p.candidates = slices.DeleteFunc(p.candidates, func(c *session) bool { return c == x })
}

// refusal is why a frame was refused.
type refusal int

const (
	accepted refusal = iota
	refusedMalformed
	refusedFraming
	refusedKey
	refusedTrial
	refusedReplay
	refusedOld
	refusedHost
)

// open takes a frame apart. known says that it came from an address of a host that we know. The session that is returned with
// accepted is not necessarily believed. buf is overwritten.
func (s *sessions) open(now time.Time, frame []byte, known bool, buf []byte) (*session, body, refusal) {
	h, sealed, err := splitFrame(frame)
	switch {
	case err != nil:
		return nil, body{}, refusedMalformed
	case h.version != versionSealed && h.version != versionPlain:
		return nil, body{}, refusedMalformed
	case (h.version == versionPlain) != s.plain:
		return nil, body{}, refusedFraming
	case h.session == s.own: // a mirror
		return nil, body{}, refusedReplay
	}
	x := s.byID[h.session]
	if x != nil && !x.window.fresh(h.sequence) {
		return nil, body{}, refusedReplay
	}
	opened, key, seal, why := s.unseal(now, x, h, frame[:headerSize], sealed, known, buf)
	if why != accepted {
		return nil, body{}, why
	}
	b, err := parseBody(opened)
	if err != nil {
		return nil, body{}, refusedMalformed
	}
	if x == nil {
		if x, why = s.admit(now, h.session, b); why != accepted {
			return nil, body{}, why
		}
	} else if b.name != x.host || b.started != x.started || b.boot != x.boot {
		return nil, body{}, refusedMalformed
	}
	x.key, x.seal = key, seal
	if p := s.peers[x.host]; x != p.current && s.older(now, p, x.started) {
		return nil, body{}, refusedOld
	}
	x.window.mark(h.sequence)
	x.heard = now
	return x, b, accepted
}

// unseal opens a body with the key of its session, or with whichever fits: of a session that is new, or whose host has
// changed to another key.
func (s *sessions) unseal(now time.Time, x *session, h header, head, sealed []byte, known bool, buf []byte) ([]byte, []byte, cipher.AEAD, refusal) {
	if s.plain {
		return sealed, nil, nil, accepted
	}
	if len(sealed) < tagSize {
		return nil, nil, nil, refusedMalformed
	}
	n := sealNonce(h.sequence)
	if x != nil {
		if b, err := x.seal.Open(buf[:0], n[:], sealed, head); err == nil {
			return b, x.key, x.seal, accepted
		}
		if len(s.keys) == 1 {
			return nil, nil, nil, refusedKey
		}
	}
	if (!known || !s.trialsK.AllowN(now, 1)) && !s.trials.AllowN(now, 1) {
		return nil, nil, nil, refusedTrial
	}
	for _, key := range s.keys {
		if x != nil && bytes.Equal(key, x.key) {
			continue
		}
		seal, err := deriveSeal(key, h.session)
		if err != nil {
			continue
		}
		if b, err := seal.Open(buf[:0], n[:], sealed, head); err == nil {
			return b, key, seal, accepted
		}
	}
	return nil, nil, nil, refusedKey
}

// older says that a host has a session that began later and is alive.
func (s *sessions) older(now time.Time, p *peer, started int64) bool {
	return p.current != nil && started < p.current.started && now.Sub(p.current.heard) < reignOf
}

// admit makes a session of a host that we know a candidate.
func (s *sessions) admit(now time.Time, id sessionID, b body) (*session, refusal) {
	p := s.peers[b.name]
	if p == nil {
		return nil, refusedHost
	}
	if s.older(now, p, b.started) {
		return nil, refusedOld
	}
	x := &session{id: id, host: b.name, started: b.started, boot: b.boot}
	_, _ = rand.Read(x.challenge[:]) // never fails, see crypto/rand
	if len(p.candidates) == maxCandidates {
		s.drop(p.candidates[0])
	}
	p.candidates = append(p.candidates, x)
	s.byID[id] = x
	return x, accepted
}

// believe makes a session the one of its host. It returns the boot id that the host had before, if there was one.
func (s *sessions) believe(x *session) (before [16]byte) {
	p := s.peers[x.host]
	if p.current != nil {
		s.drop(p.current)
	}
	p.candidates = slices.DeleteFunc(p.candidates, func(c *session) bool { return c == x })
	p.current = x
	before, p.boot = p.boot, x.boot
	return before
}

func (s *sessions) believed(x *session) bool { return s.peers[x.host].current == x }
