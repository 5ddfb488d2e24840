package gossip

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/durable"
)

func TestDamagedRosterIsSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, rosterFile)
	if err := os.WriteFile(path, []byte(`{"version":1,"hosts":[{"node":"x"`), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := loadRoster(dir)
	var damaged *damagedError
	if !errors.As(err, &damaged) || r == nil || len(r.list()) != 0 {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	r.seen([]Member{{Node: "b", Addr: netip.MustParseAddrPort("192.0.2.1:7946")}}, time.Now())
	if err := r.save(false); err != nil {
		t.Fatal(err)
	}
	if r, err = loadRoster(dir); err != nil || len(r.list()) != 1 {
		t.Errorf("%v, %v", r, err)
	}
}

// Killed while it wrote, it leaves a file behind, which may hold keys.
func TestWhatACrashHasLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left := []string{filepath.Join(dir, rosterFile+durable.Unfinished), filepath.Join(dir, keyringFile+durable.Unfinished)}
	file := filepath.Join(dir, "gossip.key")
	for _, path := range append(left, file) {
		if err := os.WriteFile(path, []byte(GenerateKey()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := loadRoster(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyring(file, dir); err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

func FuzzRoster(f *testing.F) {
	f.Add([]byte(`{"version":1,"hosts":[{"node":"x","addr":"192.0.2.1:1"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _ = parseRoster(b) })
}
