package gossip

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// What agents of wire version 1 say and keep, recorded: it is understood for as long as an agent of that version may be
// met. A change of these bytes is a new version.
const (
	envelopeV1  = "0101000000000000000505636d702d3178"
	identityV1  = "010110000102030405060708090a0b0c0d0e0f02080000019353506d0003000408000000000000000807100000000000000003000000000000feed05067261636b2d61060d3139322e302e322e313a343433"
	agreementV1 = "0100000000000000030120070707070707070707070707070707070707070707070707070707070707070701001122334455"
	rosterV1    = `{"version":1,"hosts":[{"node":"cmp-1","addr":"192.0.2.1:7946","zone":"rack-a","api":"192.0.2.1:443","first_seen":"2026-11-22T10:00:00Z","last_seen":"2026-11-22T11:00:00Z"}]}`
	keyringV1   = `{"version":1,"key_file":"00112233","changes":3,"keys":["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="],"removed":["001122334455"]}`
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRecordedBytesAreUnderstood(t *testing.T) {
	e, err := decodeEnvelope(unhex(t, envelopeV1))
	if err != nil || !e.relay || e.keys || e.id != 5 || e.from != "cmp-1" || string(e.payload) != "x" {
		t.Errorf("%+v, %v", e, err)
	}
	if got := hex.EncodeToString(e.encode()); got != envelopeV1 {
		t.Errorf("it is now %s", got)
	}
	id := identity{
		Boot: [16]byte(unhex(t, "000102030405060708090a0b0c0d0e0f")), Started: time.UnixMilli(1_732_269_600_000), Settled: true,
		Term: 8, Keys: mark{3, 0xfeed}, Zone: "rack-a", API: "192.0.2.1:443",
	}
	if got := hex.EncodeToString(id.encode()); got != identityV1 {
		t.Errorf("it is now %s", got)
	}
	back, err := decodeIdentity(append(unhex(t, identityV1), 200, 3, 'n', 'e', 'w')) // with a field of tomorrow
	if err != nil || !reflect.DeepEqual(back, id) {
		t.Errorf("%+v, %v", back, err)
	}
	want := agreement{changes: 3, keys: []CipherKey{testKey}, removed: []string{"001122334455"}}
	a, err := decodeAgreement(unhex(t, agreementV1))
	if err != nil || !reflect.DeepEqual(a, want) || !bytes.Equal(a.encode(), unhex(t, agreementV1)) {
		t.Errorf("%+v, %v: %x", a, err, a.encode())
	}
	if from, a, err := parseKeyring([]byte(keyringV1)); err != nil || from != "00112233" || !reflect.DeepEqual(a, want) {
		t.Errorf("%+v, %v", a, err)
	}
	hosts, err := parseRoster([]byte(rosterV1))
	if h := hosts["cmp-1"]; err != nil || h.Addr != netip.MustParseAddrPort("192.0.2.1:7946") || h.Zone != "rack-a" || h.First.IsZero() || h.Last.IsZero() {
		t.Errorf("%+v, %v", hosts, err)
	}
	path := filepath.Join(t.TempDir(), rosterFile)
	if err := os.WriteFile(path, []byte(`{"version":2,"hosts":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadRoster(filepath.Dir(path)); err == nil {
		t.Error("a roster of tomorrow is taken")
	}
}
