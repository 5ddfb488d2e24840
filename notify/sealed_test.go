package notify

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paramedic-ha/paramedic/correlate"
)

// sealer is AES-GCM under one key; the product's own (agent/seal) can't be imported from here.
type sealer struct{ aead cipher.AEAD }

func newSealer(t testing.TB, key byte) *sealer {
	t.Helper()
	block, err := aes.NewCipher(bytes.Repeat([]byte{key}, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return &sealer{aead: aead}
}

func (s *sealer) Seal(plain, context []byte) []byte {
	nonce := make([]byte, s.aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	return s.aead.Seal(nonce, nonce, plain, context)
}

func (s *sealer) Open(sealed, context []byte) ([]byte, error) {
	if n := s.aead.NonceSize(); len(sealed) >= n {
		if plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], context); err == nil {
			return plain, nil
		}
	}
	return nil, errors.New("the key is not held here")
}

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// rawKey is that of testdata's API subscription.
func rawKey() []byte {
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	return key
}

func apiSubscription(url string) Subscription {
	return Subscription{
		ID: "4fe1c0de-0000-4000-8000-000000000001", Version: 3, Name: "vnfm-a", Endpoints: []string{url}, Format: FormatNative, Role: RoleConsumer,
		Secret: NewSecret(rawKey()), Origin: OriginAPI, Filter: Filter{Projects: []string{"p1"}, MinSeverity: correlate.SeverityMajor}, Verified: true,
		Rate: 600, Created: epoch,
	}
}

// TestRecordsOfBothVersionsAreRead: testdata holds the bytes as each version wrote them; they are never made anew.
func TestRecordsOfBothVersionsAreRead(t *testing.T) {
	by := newSealer(t, 1)
	want := apiSubscription("http://10.0.0.5:8080/failure")
	for name, refused := range map[string]uint64{"subscription-api.v1": 0, "subscription-api.v2": 0, "subscription-api-bare.v2": 3} {
		if r, err := decodeSubscription(want.ID, recorded(t, name), by); err != nil || !reflect.DeepEqual(r.Subscription, want) || r.Refused != refused {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	for _, name := range []string{"subscription-file.v1", "subscription-file.v2"} {
		if r, err := decodeSubscription(FileID("prod", "vnfm-b"), recorded(t, name), by); err != nil || r.Digest != "0102" || r.Paused != "enough" || r.Origin != OriginFile {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	for _, name := range []string{"pair.v1", "pair.v2"} {
		if r, err := decodePair("a1", recorded(t, name)); err != nil || r.Owed != rev(7) || r.Told != rev(5) || r.Attempts != 3 || !r.Backoff {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	for _, name := range []string{"alarm.v1", "alarm.v2"} {
		if r, err := decodeAlarm("a1", recorded(t, name)); err != nil || !reflect.DeepEqual(r.Alarm, alarm("a1", 7, correlate.Changed, "p1")) {
			t.Errorf("%s: %v %+v", name, err, r)
		}
	}
	if bytes.Contains(recorded(t, "subscription-api.v2"), []byte(base64.StdEncoding.EncodeToString(rawKey()))) {
		t.Error("the key is bare")
	}
	if _, err := decodePair("a1", append([]byte{recordVersion + 1}, "{}"...)); !errors.Is(err, errRecord) {
		t.Error(err)
	}
}

// restingSubscription reads what the outbox holds under an id.
func restingSubscription(t testing.TB, dir, id string) (b []byte) {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(dir, dbName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		b = bytes.Clone(tx.Bucket(shelfNames[shelfSubscriptions]).Get([]byte(id)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestABareSecretIsSealedAtTheNextStart: the outbox is one that an agent of before has written.
func TestABareSecretIsSealedAtTheNextStart(t *testing.T) {
	dir := t.TempDir()
	id := apiSubscription("").ID
	cfg, _ := testConfig(t, dir)
	_, stop := start(t, cfg)
	stop()
	db, err := bbolt.Open(filepath.Join(dir, dbName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(shelfNames[shelfSubscriptions]).Put([]byte(id), recorded(t, "subscription-api.v1"))
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	cfg.Sealer = newSealer(t, 1)
	for range 2 { // and stays so
		n, stop := start(t, cfg)
		if got := n.Held(); len(got) != 1 || !got[0].Secret.equal(NewSecret(rawKey())) {
			t.Fatalf("%+v", got)
		}
		stop()
		if b := restingSubscription(t, dir, id); b[0] != recordVersion || bytes.Contains(b, []byte(base64.StdEncoding.EncodeToString(rawKey()))) {
			t.Errorf("it rests as %q", b)
		}
	}
}

// TestASecretThatCannotBeOpenedIsKeptReportedAndDeliveredByAPeer, and pending while there is none who could.
func TestASecretThatCannotBeOpenedIsKeptReportedAndDeliveredByAPeer(t *testing.T) {
	c := newConsumer(t, nil)
	s := apiSubscription(c.URL)
	s.Role, s.Rate = RoleAdmin, 0
	dir := t.TempDir()
	cfg, _ := testConfig(t, dir)
	cfg.Sealer = newSealer(t, 1)
	n, stop := start(t, cfg)
	put(t, n, s, nil)
	stop()
	sealed := restingSubscription(t, dir, s.ID)

	cfg, r := testConfig(t, dir)
	cfg.Sealer = newSealer(t, 2) // a host of this configuration alone
	n, stop = start(t, cfg)
	n.Publish(effects(alarm("a1", 1, correlate.Raised, "p1")))
	eventually(t, "it is reported", func() bool { return r.last(correlate.CondSubscription) == correlate.StatusFailed })
	if text := r.text(correlate.CondSubscription); !strings.Contains(text, "the key is not held here") || !strings.Contains(text, "cluster.secrets_key_file") {
		t.Errorf("reported %q", text)
	}
	eventually(t, "it is owed", func() bool { return len(n.Deliveries(DeliveryPending)) == 1 })
	if _, err := n.Test(t.Context(), s.ID); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	if _, err := n.Deliver(t.Context(), HandOver{NotificationID: "n", Subscription: s.ID, Version: s.Version, Change: correlate.Change{Alarm: alarm("a", 1, correlate.Raised)}}); !errors.Is(err, ErrLocked) {
		t.Error(err)
	}
	stop()
	if len(c.messages()) != 0 {
		t.Error("sent unsigned")
	}
	if b := restingSubscription(t, dir, s.ID); !bytes.Equal(b, sealed) {
		t.Errorf("it rests as %q", b)
	}

	peerConfig, _ := testConfig(t, t.TempDir())
	peerConfig.Node = "cmp-2"
	peer, _ := start(t, peerConfig)
	put(t, peer, s, nil)
	o := newOthers()
	o.deliver = peer.Deliver
	cfg.Peers = o
	n, stop = start(t, cfg)
	m := c.waitFor(t, 1)[0]
	if err := Verify(m.header, m.body, s.Secret, time.Minute, time.Now()); err != nil || m.event.Data.Reporter != "cmp-2" {
		t.Errorf("%v %s", err, m.body)
	}
	settledAll(t, n)
	if r.count(correlate.CondSubscription) != 1 {
		t.Error("reported here too, although the peers' ledger says so (subscription-unusable)")
	}
	stop()

	cfg.Sealer, cfg.Peers = newSealer(t, 1), nil // the key is back
	n, _ = start(t, cfg)
	n.Publish(effects(alarm("a1", 2, correlate.Cleared)))
	if m := c.waitFor(t, 2)[1]; m.event.Data.Reporter != "cmp-1" || m.header.Get(HeaderSignature) == "" {
		t.Errorf("%s", m.body)
	}
}

func TestASealedSecretIsOneTextInMemoryAndOpensUnderItsOwnContextOnly(t *testing.T) {
	by := newSealer(t, 1)
	two, err := ParseSecret(GenerateSecret() + "\n" + GenerateSecret())
	if err != nil {
		t.Fatal(err)
	}
	sealed := two.Seal(by, []byte("id"))
	if got, err := OpenSecret(sealed, by, []byte("id")); err != nil || !got.equal(two) || got.Locked() {
		t.Error(err)
	}
	for name, open := range map[string]func() (Secret, error){
		"context": func() (Secret, error) { return OpenSecret(sealed, by, []byte("other")) },
		"key":     func() (Secret, error) { return OpenSecret(sealed, newSealer(t, 2), []byte("id")) },
		"no key":  func() (Secret, error) { return OpenSecret(sealed, nil, []byte("id")) },
	} {
		got, err := open()
		if err == nil || !got.Locked() || got.IsZero() || !bytes.Equal(got.Seal(newSealer(t, 3), []byte("id")), sealed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := OpenSecret(two.Seal(nil, nil), nil, nil); err != nil || !got.equal(two) {
		t.Error(err)
	}
	if got, err := OpenSecret((Secret{}).Seal(by, nil), by, nil); err != nil || !got.IsZero() {
		t.Error(err)
	}
}

func FuzzOpenSecret(f *testing.F) {
	f.Add([]byte(`["AAEC"]`))
	f.Add([]byte(`{"keys":["AAEC","AwQF"],"until":["0001-01-01T00:00:00Z","2026-11-22T12:00:00Z"]}`))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := OpenSecret(b, nil, nil)
		if s.Locked() != (err != nil) || err != nil && !bytes.Equal(s.Seal(nil, nil), b) {
			t.Fatalf("%v %v", err, s.Locked())
		}
	})
}
