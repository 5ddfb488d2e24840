package gossip

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// CipherKey is one key of the gossip: 16, 24 or 32 bytes (AES-128, -192 or -256). It does not print itself.
type CipherKey []byte

// String is the fingerprint: enough to tell keys apart, nothing to open a message with.
func (k CipherKey) String() string {
	sum := sha256.Sum256(append([]byte("paramedic gossip key\x00"), k...))
	return hex.EncodeToString(sum[:6])
}

// GoString is String: %#v must not print the key either.
func (k CipherKey) GoString() string { return k.String() }

// Format prints the fingerprint under every verb, %x and %s among them.
func (k CipherKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// MarshalText is the fingerprint, so that a key that strays into JSON or a log stays secret.
func (k CipherKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// maxKeys on a ring: each packet that is not for us is tried with all of them.
const maxKeys = 8

// GenerateKey makes a key of 32 bytes and returns it as a line of a key file.
func GenerateKey() string {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails, see crypto/rand
	return base64.StdEncoding.EncodeToString(key[:])
}

// ParseKey reads one key as base64. The error does not repeat the text.
func ParseKey(text string) (CipherKey, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New(`not base64; "paramedic keygen" makes a key`)
	}
	if memberlist.ValidateKey(key) != nil {
		return nil, fmt.Errorf(`%d bytes long, not 16, 24 or 32; "paramedic keygen" makes a key`, len(key))
	}
	return key, nil
}

// ParseKeys reads a key file: one key a line, the first is the primary that we encrypt with, all open what comes in.
// Empty lines and lines that begin with # are skipped.
func ParseKeys(text []byte) ([]CipherKey, error) {
	var keys []CipherKey
	for i, line := range strings.Split(string(text), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, err := ParseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: the key is %w", i+1, err)
		}
		if !slices.ContainsFunc(keys, func(k CipherKey) bool { return bytes.Equal(k, key) }) {
			keys = append(keys, key)
		}
	}
	switch {
	case len(keys) == 0:
		return nil, errors.New(`there is no key in it; "paramedic keygen" makes one`)
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("there are %d keys in it, more than %d: remove old ones", len(keys), maxKeys)
	}
	return keys, nil
}

// Keyring is what a peer starts with.
type Keyring struct {
	Keys []CipherKey // the first encrypts; none: no encryption
	File []CipherKey // what the key file says, when run-time changes of it have made Keys; else nil
}

// LoadKeyring reads a key file and, when dir is not empty, what AddKey, UseKey and RemoveKey made of it since. The newer
// word wins: a key file that was changed after them puts their changes aside.
func LoadKeyring(file, dir string) (Keyring, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Keyring{}, fmt.Errorf("read the gossip keys: %w", err)
	}
	keys, err := ParseKeys(text)
	if err != nil {
		return Keyring{}, fmt.Errorf("read the gossip keys: %s: %w", file, err)
	}
	if dir == "" {
		return Keyring{Keys: keys}, nil
	}
	ring, err := os.ReadFile(filepath.Join(dir, keyringFile))
	if errors.Is(err, os.ErrNotExist) {
		return Keyring{Keys: keys}, nil
	}
	if err != nil {
		return Keyring{}, fmt.Errorf("read the gossip keyring: %w", err)
	}
	if first, _, _ := strings.Cut(string(ring), "\n"); first != ringHead(keys) {
		return Keyring{Keys: keys}, nil
	}
	changed, err := ParseKeys(ring)
	if err != nil {
		return Keyring{}, fmt.Errorf("read the gossip keyring: %s: %w; remove the file to start again from %s",
			filepath.Join(dir, keyringFile), err, file)
	}
	return Keyring{Keys: changed, File: keys}, nil
}

const keyringFile = "keyring"

// ringHead ties a keyring to the keys that it started from.
func ringHead(origin []CipherKey) string {
	hash := sha256.New()
	for _, k := range origin {
		fmt.Fprintf(hash, "%s\n", k)
	}
	return "# run-time changes of the key file " + hex.EncodeToString(hash.Sum(nil)[:8]) + "; that file changed puts these aside"
}

// AddKey makes what is encrypted with the key readable here. It is the first step of a rotation, on every agent; then
// UseKey on every agent, then RemoveKey of the old one on every agent: at no moment can two of them not talk.
// The change is on disk (Config.Dir) when it returns nil. Safe from any goroutine, as are the other two.
func (p *Peer) AddKey(key CipherKey) error {
	return p.changeKeys("add a gossip key", func() error {
		if len(p.ring.GetKeys()) >= maxKeys {
			return fmt.Errorf("there are %d already: remove old ones first", maxKeys)
		}
		return p.ring.AddKey(bytes.Clone(key))
	})
}

// UseKey makes the key the primary: we encrypt with it from now on. Every agent must have it already.
func (p *Peer) UseKey(key CipherKey) error {
	return p.changeKeys("use a gossip key", func() error {
		if !p.hasKey(key) {
			return fmt.Errorf("key %s is not on the ring here: add it on every agent first", key)
		}
		return p.ring.UseKey(key)
	})
}

// RemoveKey forgets a key, which must not be the primary. What still comes encrypted with it is then refused.
func (p *Peer) RemoveKey(key CipherKey) error {
	return p.changeKeys("remove a gossip key", func() error {
		if !p.hasKey(key) {
			return fmt.Errorf("key %s is not on the ring here", key)
		}
		if bytes.Equal(p.ring.GetPrimaryKey(), key) {
			return fmt.Errorf("key %s is the one in use: use another on every agent first", key)
		}
		return p.dropKey(key)
	})
}

// SetKeys makes the ring what a changed key file says, in an order that leaves no gap here.
func (p *Peer) SetKeys(keys []CipherKey) error {
	if len(keys) == 0 || len(keys) > maxKeys {
		return fmt.Errorf("set the gossip keys: %d given, not 1 to %d", len(keys), maxKeys)
	}
	p.keyLock.Lock()
	p.origin = slices.Clone(keys)
	p.keyLock.Unlock()
	return p.changeKeys("set the gossip keys", func() error {
		for _, k := range keys {
			if err := p.ring.AddKey(bytes.Clone(k)); err != nil {
				return err
			}
		}
		if err := p.ring.UseKey(keys[0]); err != nil {
			return err
		}
		for _, old := range slices.Clone(p.ring.GetKeys()) {
			if !slices.ContainsFunc(keys, func(k CipherKey) bool { return bytes.Equal(k, old) }) {
				if err := p.dropKey(old); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Keys are the fingerprints of the keys here, the primary first; none when the gossip is not encrypted.
func (p *Peer) Keys() []string {
	if p.ring == nil {
		return nil
	}
	var prints []string
	for _, k := range p.ring.GetKeys() {
		prints = append(prints, CipherKey(k).String())
	}
	return prints
}

func (p *Peer) hasKey(key CipherKey) bool {
	return slices.ContainsFunc(p.ring.GetKeys(), func(k []byte) bool { return bytes.Equal(k, key) })
}

func (p *Peer) changeKeys(doing string, change func() error) error {
	if p.ring == nil {
		return fmt.Errorf("%s: the gossip is not encrypted (cluster.insecure): set cluster.key_file and restart", doing)
	}
	p.keyLock.Lock()
	defer p.keyLock.Unlock()
	if err := change(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if p.cfg.Dir == "" {
		return nil
	}
	var text bytes.Buffer
	text.WriteString(ringHead(p.origin) + "\n")
	for _, k := range p.ring.GetKeys() {
		text.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	}
	if err := writeFile(filepath.Join(p.cfg.Dir, keyringFile), text.Bytes()); err != nil {
		return fmt.Errorf("%s: done, but a restart will not know: %w", doing, err)
	}
	return nil
}

// dropKey removes a key that is not the primary. memberlist v0.7.0 removes in place, under the hands of those who are
// decrypting with the slice that GetKeys gave them, unless the key is the last: so it is made the last. Each step
// of that makes another key the primary for an instant, so the real one comes back at once.
func (p *Peer) dropKey(key []byte) error {
	primary := p.ring.GetPrimaryKey()
	keys := slices.Clone(p.ring.GetKeys())
	at := slices.IndexFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	for _, behind := range keys[at+1:] {
		if err := errors.Join(p.ring.UseKey(behind), p.ring.UseKey(primary)); err != nil {
			return err
		}
	}
	return p.ring.RemoveKey(key)
}
