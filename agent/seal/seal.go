// Package seal encrypts what must stay secret where it rests and travels: the signing secrets of subscriptions, on every
// host's disk and between the hosts. Its keys are apart from those of the gossip, so that who reads the one does not
// read the other.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/notify"
)

const (
	prefix  = "sealkey_" // of a key in a file, so that no other secret is taken for one
	keySize = 32         // bytes: AES-256
	maxKeys = 8
	idSize  = 6

	// What is sealed: version, id of the key, nonce, ciphertext, tag. All but the ciphertext and the tag is open.
	version  = 1
	headSize = 1 + idSize
	overhead = 12 + 16 // nonce and tag of GCM (NIST SP 800-38D)
)

// ErrKey says that something is sealed under a key that is not held here.
var ErrKey = errors.New("that key is not in cluster.secrets_key_file here")

// ErrDamaged says that something was not sealed, or was altered, or belongs elsewhere.
var ErrDamaged = errors.New("it is damaged, or not what it should be")

// Keyring holds the keys of one secrets_key_file: the first seals, all open. It never prints a key. Safe for concurrent
// use.
type Keyring struct{ keys []key }

var _ notify.Sealer = (*Keyring)(nil)

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// GenerateKey makes a key in the form that ParseKeyring reads: one line of the file.
func GenerateKey() string {
	var raw [keySize]byte
	_, _ = rand.Read(raw[:]) // never fails, see crypto/rand
	return prefix + base64.StdEncoding.EncodeToString(raw[:])
}

// ParseKeyring reads a secrets_key_file: one key a line, each "sealkey_" and base64 of 32 bytes. Empty lines and lines
// that begin with # are skipped. Errors never show what was read.
func ParseKeyring(text []byte) (*Keyring, error) {
	ring := new(Keyring)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		k, err := parseKey(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
		if ring.find(k.id[:]) == nil {
			ring.keys = append(ring.keys, k)
		}
	}
	switch {
	case len(ring.keys) == 0:
		return nil, errors.New("there is no key in it")
	case len(ring.keys) > maxKeys:
		return nil, fmt.Errorf("there are %d keys in it, more than %d", len(ring.keys), maxKeys)
	}
	return ring, nil
}

func parseKey(line string) (key, error) {
	encoded, ok := strings.CutPrefix(line, prefix)
	if !ok {
		return key{}, fmt.Errorf("a key does not begin with %q", prefix)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return key{}, fmt.Errorf("what follows %q is not base64", prefix)
	}
	if len(raw) != keySize {
		return key{}, fmt.Errorf("the key has %d bytes, want %d", len(raw), keySize)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return key{}, fmt.Errorf("set up the key: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, fmt.Errorf("set up the key: %w", err)
	}
	sum := sha256.Sum256(append([]byte("paramedic secrets key\x00"), raw...))
	return key{[idSize]byte(sum[:]), aead}, nil
}

// IDs tell the keys apart and nothing else of them, in the order of the file: the first one seals.
func (r *Keyring) IDs() []string {
	ids := make([]string, len(r.keys))
	for i, k := range r.keys {
		ids[i] = hex.EncodeToString(k.id[:])
	}
	return ids
}

func (r *Keyring) find(id []byte) *key {
	i := slices.IndexFunc(r.keys, func(k key) bool { return string(k.id[:]) == string(id) })
	if i < 0 {
		return nil
	}
	return &r.keys[i]
}

// Seal implements notify.Sealer. The same text is sealed differently each time.
func (r *Keyring) Seal(plain, context []byte) []byte {
	k := &r.keys[0]
	sealed := make([]byte, headSize, headSize+overhead+len(plain))
	sealed[0] = version
	copy(sealed[1:], k.id[:])
	return k.aead.Seal(sealed, nil, plain, authenticated(sealed, context))
}

// Current reports that something is sealed under the first key. One that is not is to be sealed anew, so that the older key
// can go.
func (r *Keyring) Current(sealed []byte) bool {
	return len(sealed) >= headSize && sealed[0] == version && string(sealed[1:headSize]) == string(r.keys[0].id[:])
}

// Open implements notify.Sealer. The error is ErrKey or ErrDamaged.
func (r *Keyring) Open(sealed, context []byte) ([]byte, error) {
	if len(sealed) < headSize+overhead {
		return nil, fmt.Errorf("%d bytes are too short: %w", len(sealed), ErrDamaged)
	}
	if sealed[0] != version {
		return nil, fmt.Errorf("version %d is unknown, this agent knows %d: %w", sealed[0], version, ErrDamaged)
	}
	head := sealed[:headSize:headSize]
	k := r.find(head[1:])
	if k == nil {
		return nil, fmt.Errorf("it is sealed under key %x: %w", head[1:], ErrKey)
	}
	plain, err := k.aead.Open(nil, nil, sealed[headSize:], authenticated(head, context))
	if err != nil { // says nothing but that it failed
		return nil, ErrDamaged
	}
	return plain, nil
}

// authenticated is what is not secret and must not be altered.
func authenticated(head, context []byte) []byte {
	return append(head[:headSize:headSize], context...)
}

// String says which keys there are, and none of them.
func (r *Keyring) String() string {
	if r == nil {
		return "no secrets keys"
	}
	return "secrets keys " + strings.Join(r.IDs(), " ")
}

// Format keeps every verb from printing a key.
func (r *Keyring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue keeps the keys out of logs.
func (r *Keyring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// MarshalText keeps the keys out of every encoding.
func (r *Keyring) MarshalText() ([]byte, error) { return []byte(r.String()), nil }
