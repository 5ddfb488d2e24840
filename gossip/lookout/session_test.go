package lookout

import (
	"crypto/rand"
	"encoding/binary"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/paramedic-ha/paramedic/gossip/watch"
)

// sender makes frames without sockets.
type sender struct {
	Lookout
}

func newSender(t testing.TB, name string, started int64, k []byte) *sender {
	t.Helper()
	s := &sender{Lookout{cfg: Config{Self: name, Started: time.UnixMilli(started), Boot: [16]byte{1}}}}
	_, _ = rand.Read(s.seal.session[:])
	s.sessions = newSessions(s.seal.session, [][]byte{k})
	if err := s.useKey(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *sender) says(kind frameKind, n nonce) []byte {
	b := body{kind: kind, name: s.cfg.Self, started: s.cfg.Started.UnixMilli(), boot: s.cfg.Boot, nonce: n}
	b.packet = watch.Packet{Kind: watch.EchoReply}
	return s.frame(nil, b)
}

func newReceiver(names ...string) *sessions {
	s := newSessions(sessionID{}, [][]byte{key(1)})
	s.setHosts(names)
	return s
}

// takes opens a frame and checks what becomes of it.
func (s *sessions) takes(t testing.TB, now time.Time, frame []byte, want refusal) *session {
	t.Helper()
	x, _, got := s.open(now, frame, false, nil)
	if got != want {
		t.Fatalf("refused for %d, not %d", got, want)
	}
	return x
}

func TestAWindowKnowsWhatItHasSeen(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen, top := map[uint64]bool{}, uint64(0)
		base := rapid.SampledFrom([]uint64{0, 1, 1000, 1<<64 - 300}).Draw(t, "base")
		for range 200 {
			q := base + rapid.Uint64Range(0, 200).Draw(t, "sequence")
			want := !seen[q] && (len(seen) == 0 || q > top || top-q < 64)
			if got := w.fresh(q); got != want {
				t.Fatalf("sequence %d below %d: fresh is %v", q, top, got)
			}
			if want {
				w.mark(q)
				seen[q], top = true, max(top, q)
			}
		}
	})
}

func TestAnOlderSessionHasASayOnlyOnceTheNewerOneIsSilent(t *testing.T) {
	t.Parallel()
	now, s := time.Unix(1, 0), newReceiver("a")
	// The clock of the host was ahead when its agent began first.
	ahead, right := newSender(t, "a", 5000, key(1)), newSender(t, "a", 1000, key(1))
	s.believe(s.takes(t, now, ahead.says(framePacket, nonce{}), accepted))
	s.takes(t, now, right.says(framePacket, nonce{}), refusedOld)
	now = now.Add(reignOf - 1)
	s.takes(t, now, right.says(framePacket, nonce{}), refusedOld)
	now = now.Add(1)
	x := s.takes(t, now, right.says(framePacket, nonce{}), accepted)
	if s.believed(x) {
		t.Fatal("it is believed without having been challenged")
	}
	// The newer one lives after all.
	s.takes(t, now, ahead.says(framePacket, nonce{}), accepted)
	s.takes(t, now, right.says(framePacket, nonce{}), refusedOld)
	now = now.Add(reignOf)
	if x := s.takes(t, now, right.says(frameAnswer, nonce{}), accepted); !s.believed(x) {
		s.believe(x)
	}
	s.takes(t, now, right.says(framePacket, nonce{}), accepted)
	if len(s.byID) != 1 || len(s.peers["a"].candidates) != 0 {
		t.Errorf("%d sessions are left", len(s.byID))
	}
}

func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	now, s := time.Unix(1, 0), newReceiver("a", "b")
	for i := range 500 {
		for _, name := range []string{"a", "b"} {
			x := s.takes(t, now, newSender(t, name, int64(i), key(1)).says(framePacket, nonce{}), accepted)
			if i == 250 {
				s.believe(x)
			}
		}
	}
	if len(s.byID) > 2*(maxCandidates+1) {
		t.Errorf("%d sessions of two hosts", len(s.byID))
	}
	for _, p := range s.peers {
		if p.current == nil || s.byID[p.current.id] != p.current || len(p.candidates) != maxCandidates {
			t.Errorf("the session that is believed has been pushed out")
		}
	}
}

func TestTrialsAreBoundedAndStrangersDontUseUpThoseOfHosts(t *testing.T) {
	t.Parallel()
	now, s := time.Unix(1, 0), newReceiver("a")
	rubbish := make([]byte, 100)
	rubbish[0] = versionSealed
	tried := 0
	for i := range 10 * maxTrials {
		binary.BigEndian.PutUint64(rubbish[1:], uint64(i+1))
		switch _, _, why := s.open(now, rubbish, false, nil); why {
		case refusedKey:
			tried++
		case refusedTrial:
		default:
			t.Fatalf("refused for %d", why)
		}
	}
	if tried != maxTrials {
		t.Errorf("%d frames were tried", tried)
	}
	if _, _, why := s.open(now, newSender(t, "a", 1, key(1)).says(framePacket, nonce{}), true, nil); why != accepted {
		t.Errorf("a host at its address was refused for %d", why)
	}
}

func TestAFrameThatIsTouchedIsRefused(t *testing.T) {
	t.Parallel()
	now, s := time.Unix(1, 0), newReceiver("a")
	a := newSender(t, "a", 1, key(1))
	s.takes(t, now, a.says(framePacket, nonce{}), accepted)
	for i := range a.says(framePacket, nonce{}) {
		f := a.says(framePacket, nonce{})
		f[i] ^= 0x10
		if _, _, why := s.open(now, f, true, nil); why == accepted {
			t.Fatalf("byte %d was changed, and the frame accepted", i)
		}
	}
	mirror := newSender(t, "a", 1, key(1))
	if _, _, why := mirror.sessions.open(now, mirror.says(framePacket, nonce{}), true, nil); why != refusedReplay {
		t.Errorf("its own frame came back and was refused for %d", why)
	}
}

func FuzzFrame(f *testing.F) {
	for _, kind := range []frameKind{framePacket, frameChallenge, frameAnswer} {
		b := body{kind: kind, name: "a", started: 1, boot: [16]byte{1}, packet: watch.Packet{Kind: watch.Heartbeat, Term: 3}}
		f.Add(b.append(header{version: versionPlain, session: sessionID{1}, sequence: 2}.append(nil)))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		s := newSessions(sessionID{}, nil)
		s.setHosts([]string{"a"})
		x, b, why := s.open(time.Unix(1, 0), frame, true, nil)
		if why != accepted {
			return
		}
		if x.host != b.name || len(s.byID) != 1 {
			t.Fatalf("%+v of %+v", x, b)
		}
		h, _, err := splitFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		again := b.append(h.append(nil))
		_, b2, why := newSessionsOf(b.name).open(time.Unix(1, 0), again, true, nil)
		if why != accepted || b2 != b {
			t.Fatalf("%+v became %+v (%d)", b, b2, why)
		}
	})
}

func newSessionsOf(name string) *sessions {
	s := newSessions(sessionID{}, nil)
	s.setHosts([]string{name})
	return s
}
