package gossip

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestWrongKeyIsNamedOnBothSides(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 2)
	for i, ring := range []Keyring{{Keys: []CipherKey{bytes.Repeat([]byte{9}, 16)}}, {}} {
		cfg := n.config(3 + i)
		cfg.Keys, cfg.Insecure = ring, len(ring.Keys) == 0
		stranger := start(t, cfg)
		eventually(t, "both sides name the key", func() bool {
			a, here := all[0].trouble(TroubleKey)
			b, there := stranger.trouble(TroubleKey)
			return here && there && strings.Contains(a.Text, "cluster.key_file") && a.Count > 0 && b.Peer == n.addr(1)
		})
		eventually(t, "and log it", func() bool {
			return all[0].logged.has("wrong-key") && stranger.logged.has("wrong-key")
		})
		if len(stranger.Members()) != 1 || len(all[0].Members()) != 2 {
			t.Error("the stranger got in")
		}
		stranger.stop()
	}
	for _, r := range all {
		if r.logged.has(base64.StdEncoding.EncodeToString(testKey)) || r.logged.has(fmt.Sprintf("%x", []byte(testKey))) {
			t.Error("the key is in the log")
		}
	}
}

func TestKeysRotateWithoutGap(t *testing.T) {
	n := newTestNet(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	if err := os.WriteFile(file, []byte("# the first\n"+base64.StdEncoding.EncodeToString(testKey)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var all []*running
	for i := 1; i <= 4; i++ {
		cfg := n.config(i)
		if i == 1 {
			var err error
			if cfg.Keys, err = LoadKeyring(file, dir); err != nil {
				t.Fatal(err)
			}
			cfg.Dir = dir
		}
		all = append(all, start(t, cfg))
	}
	together(t, all...)

	stop := make(chan struct{})
	sent := make(chan int, 1)
	go func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
				all[i%4].Broadcast([]byte(fmt.Sprint("rotate ", i)))
			case <-stop:
				sent <- i
				return
			}
		}
	}()
	fresh, err := ParseKey(GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	third := CipherKey(bytes.Repeat([]byte{3}, 24))
	for i, step := range []func(*Peer) error{ // each at another host, as operators do
		func(p *Peer) error { return p.AddKey(fresh) },
		func(p *Peer) error { return p.AddKey(third) },
		func(p *Peer) error { return p.UseKey(fresh.String(), false) },
		func(p *Peer) error { return p.RemoveKey(testKey.String(), false) },
		func(p *Peer) error { return p.RemoveKey(third.String(), false) },
	} {
		// A host that has not heard yet that all have the last change says so, and is asked again, as operators do.
		var err error
		eventually(t, "the step is taken", func() bool {
			err = step(all[i%4].Peer)
			return err == nil || !strings.Contains(err.Error(), "try again")
		})
		if err != nil {
			t.Fatal(err)
		}
		keysLevel(t, all...)
	}
	close(stop)
	count := <-sent
	eventually(t, "nothing was lost", func() bool {
		for i := range count {
			for _, r := range all {
				if from := all[i%4]; r != from && r.received(from.cfg.Node, fmt.Sprint("rotate ", i)) != 1 {
					return false
				}
			}
		}
		return true
	})
	for _, r := range all {
		if trouble, ok := r.trouble(TroubleKey); ok {
			t.Errorf("%s: %+v", r.cfg.Node, trouble)
		}
		if keys := r.Keys(); len(keys) != 1 || keys[0] != fresh.String() {
			t.Errorf("%s has the keys %v", r.cfg.Node, keys)
		}
	}
	if err := all[0].RemoveKey(fresh.String(), true); err == nil {
		t.Error("the key in use was removed")
	}
	ring, err := LoadKeyring(file, dir)
	if err != nil || len(ring.Keys) != 1 || !bytes.Equal(ring.Keys[0], fresh) || ring.agreed.changes != 5 {
		t.Errorf("after a restart: %+v, %v", ring, err)
	}
	if err := os.WriteFile(file, []byte(GenerateKey()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if ring, err = LoadKeyring(file, dir); err != nil || bytes.Equal(ring.Keys[0], fresh) {
		t.Errorf("a changed key file does not win: %v", err)
	}
}

func TestKeyFilesAreJudgedWithoutRepeatingThem(t *testing.T) {
	good := GenerateKey()
	for text, want := range map[string]string{
		"":                     "no key",
		"# only this\n":        "no key",
		"SECRETSECRET!!":       "line 1: the key is not base64",
		good + "\n" + "QUJDRA": "line 2",
		"QUJDRA==":             "4 bytes long",
	} {
		_, err := ParseKeys([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "QUJD") {
			t.Errorf("%q: %v", text, err)
		}
	}
	keys, err := ParseKeys([]byte(good + "\r\n\n" + good + "\n" + GenerateKey()))
	if err != nil || len(keys) != 2 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, verb := range []string{"%v", "%s", "%x", "%#v", "%q", "%d"} {
		if s := fmt.Sprintf(verb, keys[0]); s != keys[0].String() {
			t.Errorf("%s prints %s", verb, s)
		}
	}
}

// keysLevel waits until all have taken the last step of the first.
func keysLevel(t testing.TB, all ...*running) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, r := range all {
		if s, err := r.AwaitKeys(ctx); err != nil {
			t.Fatalf("%s: %+v, %v", r.cfg.Node, s, err)
		}
	}
}

func newKey(t testing.TB) CipherKey {
	t.Helper()
	key, err := ParseKey(GenerateKey())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRotationWaitsForHostsThatAreAway(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	var all []*running
	configs := make([]PeerConfig, 3)
	for i := range configs {
		configs[i] = n.config(i + 1)
		configs[i].Dir = t.TempDir()
		all = append(all, start(t, configs[i]))
	}
	together(t, all...)
	fresh := newKey(t)
	if err := all[0].UseKey(fresh.String(), true); err == nil {
		t.Error("a key that nobody has is used")
	}
	if err := all[1].stop(); err != nil {
		t.Fatal(err)
	}
	together(t, all[0], all[2])
	if err := all[0].AddKey(fresh); err != nil {
		t.Fatal(err)
	}
	keysLevel(t, all[0], all[2])
	err := all[2].UseKey(fresh.String(), false)
	if !errors.Is(err, ErrKeysNotLevel) || !strings.Contains(err.Error(), "cmp-2 not there") || !strings.Contains(err.Error(), "cluster.key_file") {
		t.Fatalf("while one is away: %v", err)
	}
	all[1] = start(t, configs[1]) // it comes back, and is told without anybody's doing
	together(t, all...)
	eventually(t, "it has the new key", func() bool { return len(all[1].Keys()) == 2 })
	keysLevel(t, all...)
	if err := all[2].UseKey(fresh.String(), false); err != nil {
		t.Fatal(err)
	}
	keysLevel(t, all...)

	// Away with both keys while the old one is removed: it comes back by itself.
	if err := all[1].kill(); err != nil {
		t.Fatal(err)
	}
	old := configs[1]
	old.Keys = Keyring{Keys: []CipherKey{testKey, fresh}}
	old.Dir = t.TempDir()
	if err := all[0].RemoveKey(testKey.String(), true); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both have dropped the old key", func() bool { return len(all[0].Keys()) == 1 && len(all[2].Keys()) == 1 })
	back := start(t, old)
	together(t, all[0], all[2], back)
	eventually(t, "it has dropped the old key as well", func() bool { return len(back.Keys()) == 1 && back.KeyStatus().Changes == 3 })
	keysLevel(t, all[0], all[2], back)
}

func TestHostThatMissedARotationIsToldAndLetInByItsKeyFile(t *testing.T) {
	t.Parallel()
	n := newTestNet(t)
	all := n.start(t, 2)
	late := n.config(3)
	late.Dir = t.TempDir()
	file := filepath.Join(t.TempDir(), "key")
	write := func(keys ...CipherKey) {
		t.Helper()
		var text strings.Builder
		for _, k := range keys {
			text.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
		}
		if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		var err error
		if late.Keys, err = LoadKeyring(file, late.Dir); err != nil {
			t.Fatal(err)
		}
	}
	fresh := newKey(t)
	for _, step := range []func() error{
		func() error { return all[0].AddKey(fresh) },
		func() error { return all[0].UseKey(fresh.String(), false) },
		func() error { return all[0].RemoveKey(testKey.String(), false) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		keysLevel(t, all...)
	}
	write(testKey)
	missed := start(t, late)
	eventually(t, "both sides name the key and what to do", func() bool {
		a, here := all[0].trouble(TroubleKey)
		b, there := missed.trouble(TroubleKey)
		return here && there && strings.Contains(a.Text, "as the first line") && strings.Contains(b.Text, "as the first line")
	})
	missed.stop()
	write(fresh, testKey)
	back := start(t, late)
	together(t, all[0], all[1], back)
	keysLevel(t, all[0], all[1], back)
	eventually(t, "the key that was removed is gone there too", func() bool { return len(back.Keys()) == 1 })
	other := []CipherKey{newKey(t)}
	if err := back.SetKeys(other); err == nil || !strings.Contains(err.Error(), "paramedic keys") {
		t.Errorf("a key file that contradicts the cluster is taken: %v", err)
	}
	if err := back.SetKeys([]CipherKey{fresh}); err != nil {
		t.Errorf("a key file that says what the cluster does: %v", err)
	}
	back.stop()
	write(fresh)
	if late.Keys.agreed.changes != 3 {
		t.Errorf("after a restart it has forgotten the changes: %+v", late.Keys)
	}
}

func TestChangesOfKeysAtTwoHostsAtOnceEndEqual(t *testing.T) {
	n := newTestNet(t)
	all := n.start(t, 3)
	if err := errors.Join(all[1].AddKey(newKey(t)), all[2].AddKey(newKey(t))); err != nil {
		t.Fatal(err)
	}
	keysLevel(t, all...)
	for _, r := range all[1:] {
		r.keyLock.Lock()
		if r.agreed.mark() != all[0].agreed.mark() {
			t.Error("they don't agree")
		}
		r.keyLock.Unlock()
	}
}

func TestKeyFilesAreFollowedWhileNobodyChangedKeysAtRunTime(t *testing.T) {
	n := newTestNet(t)
	all := n.start(t, 2)
	fresh := newKey(t)
	for _, file := range [][]CipherKey{{testKey, fresh}, {fresh, testKey}, {fresh}} {
		for _, r := range all {
			if err := errors.Join(r.SetKeys(file), r.SetKeys(file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range all {
		if keys := r.Keys(); len(keys) != 1 || keys[0] != fresh.String() {
			t.Errorf("%s has %v", r.cfg.Node, keys)
		}
	}
	if err := all[0].Broadcast([]byte("still there")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "they talk", func() bool { return all[1].received("cmp-1", "still there") == 1 })
	if err := all[0].UseKey(fresh.String(), false); !errors.Is(err, ErrKeysNotLevel) {
		t.Errorf("nobody knows whether all have it: %v", err)
	}
}

func TestDamagedKeyringIsNamedWithoutItsKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	secret := base64.StdEncoding.EncodeToString(testKey)
	if err := os.WriteFile(file, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", `{"version":2}`, `{"version":1,"changes":1,"keys":["` + secret[:20] + `"]}`, `{"version":1,"changes":0,"keys":["` + secret + `"]}`, `{"keys":"` + secret} {
		if err := os.WriteFile(filepath.Join(dir, keyringFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadKeyring(file, dir); err == nil || !strings.Contains(err.Error(), "remove the file") || strings.Contains(err.Error(), secret[:12]) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzAgreement(f *testing.F) {
	f.Add(agreement{changes: 3, keys: []CipherKey{testKey}, removed: []string{"001122334455"}}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, err := decodeAgreement(b); err == nil && !bytes.Equal(a.encode(), b) {
			t.Errorf("%x becomes %x", b, a.encode())
		}
	})
}

func FuzzKeyring(f *testing.F) {
	f.Add([]byte(`{"version":1,"key_file":"x","changes":1,"keys":["BwcHBwcHBwcHBwcHBwcHBw=="],"removed":["001122334455"]}`))
	f.Fuzz(func(t *testing.T, b []byte) { _, _, _ = parseKeyring(b) })
}
