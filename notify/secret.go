package notify

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Secret signs a subscription's notifications. It prints as "[secret]" wherever it is formatted, logged or marshalled.
// During a rotation it holds several keys; each notification then carries a signature by each.
//
// One that was sealed under a key that is not held here is Locked: it can be kept and handed on, and signs nothing.
type Secret struct {
	keys   [][]byte
	until  []time.Time // nil, or of each key: when it ends; zero: never
	sealed []byte      // of a locked one
	why    string      // it is locked
}

const (
	secretPrefix = "whsec_"
	minKey       = 24 // bytes, Standard Webhooks 1.0
	maxKey       = 64
	maxKeys      = 4
)

// NewSecret holds a copy of the raw key (24–64 bytes, Standard Webhooks 1.0).
func NewSecret(key []byte) Secret {
	if len(key) == 0 {
		return Secret{}
	}
	return Secret{keys: [][]byte{bytes.Clone(key)}}
}

// ParseSecret reads the content of a secret file: "whsec_" and base64 of 24 to 64 bytes; during a rotation up to four of
// them, one a line. Errors never show what was read.
func ParseSecret(text string) (Secret, error) {
	var s Secret
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(s.keys) == maxKeys {
			return Secret{}, fmt.Errorf("secret: more than %d keys: keep those in use", maxKeys)
		}
		encoded, ok := strings.CutPrefix(line, secretPrefix)
		if !ok {
			return Secret{}, errors.New(`secret: want "whsec_" and base64; make one with "paramedic keygen"`)
		}
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if err != nil {
			return Secret{}, errors.New(`secret: what follows "whsec_" is not base64; make one with "paramedic keygen"`)
		}
		if len(key) < minKey || len(key) > maxKey {
			return Secret{}, fmt.Errorf("secret: the key has %d bytes, want %d to %d", len(key), minKey, maxKey)
		}
		s.keys = append(s.keys, key)
	}
	if len(s.keys) == 0 {
		return Secret{}, errors.New(`secret: it is empty; make one with "paramedic keygen"`)
	}
	return s, nil
}

// GenerateSecret makes a new signing secret in the form that ParseSecret reads.
func GenerateSecret() string {
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand, Go 1.24)
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// Seal returns the keys as one text, sealed under context; of a locked secret what it was opened from, of none nil. With a
// nil sealer the text is bare.
func (s Secret) Seal(by Sealer, context []byte) []byte {
	if s.Locked() || s.IsZero() {
		return bytes.Clone(s.sealed)
	}
	plain, _ := json.Marshal(s.keys) // slices of bytes can't fail
	if s.until != nil {
		plain, _ = json.Marshal(rotation{s.keys, s.until})
	}
	if by == nil {
		return plain
	}
	return by.Seal(plain, context)
}

// OpenSecret is the inverse of Seal. With an error, which says why and never what, the secret is Locked.
func OpenSecret(sealed []byte, by Sealer, context []byte) (Secret, error) {
	if len(sealed) == 0 {
		return Secret{}, nil
	}
	var s Secret
	plain, err := sealed, error(nil)
	if by != nil {
		plain, err = by.Open(sealed, context)
	}
	if err == nil && !s.read(plain) { // json's own error could show a part
		err = errors.New("there is no key for it, or it is damaged")
	}
	if err != nil {
		return Secret{sealed: bytes.Clone(sealed), why: err.Error()}, fmt.Errorf("open secret: %w", err)
	}
	return s, nil
}

// rotation is the sealed text of a secret of which keys end; that of any other is the list of its keys.
type rotation struct {
	Keys  [][]byte    `json:"keys"`
	Until []time.Time `json:"until"`
}

func (s *Secret) read(plain []byte) bool {
	if json.Unmarshal(plain, &s.keys) != nil {
		var r rotation
		if json.Unmarshal(plain, &r) != nil || len(r.Until) != len(r.Keys) {
			return false
		}
		s.keys, s.until = r.Keys, r.Until
	}
	return len(s.keys) > 0 && len(s.keys) <= maxKeys
}

// after is s in the place of old, whose keys sign beside it until a time, or until their own end. The error says that s and
// they are too many.
func (s Secret) after(old Secret, now, until time.Time) (Secret, error) {
	next := Secret{keys: slices.Clone(s.keys), until: make([]time.Time, len(s.keys))}
	for i, key := range old.keys {
		end := until
		if old.until != nil && !old.until[i].IsZero() && old.until[i].Before(until) {
			end = old.until[i]
		}
		if !end.After(now) || slices.ContainsFunc(s.keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
			continue
		}
		next.keys, next.until = append(next.keys, key), append(next.until, end)
	}
	if len(next.keys) > maxKeys {
		return Secret{}, fmt.Errorf("with the keys that still sign there would be %d, at most %d are allowed: wait, or leave the overlap out", len(next.keys), maxKeys)
	}
	if len(next.keys) == len(s.keys) {
		return s, nil
	}
	return next, nil
}

// signing are the keys that have not ended.
func (s Secret) signing(now time.Time) [][]byte {
	if s.until == nil {
		return s.keys
	}
	var keys [][]byte
	for i, key := range s.keys {
		if s.until[i].IsZero() || s.until[i].After(now) {
			keys = append(keys, key)
		}
	}
	return keys
}

// SecretKey is what may be known of one key of a secret.
type SecretKey struct {
	Fingerprint string    // the first 8 bytes of its SHA-256, in hexadecimal digits
	Until       time.Time // it signs; zero: until it is replaced
}

// keysAt are those that sign at a time.
func (s Secret) keysAt(now time.Time) []SecretKey {
	var out []SecretKey
	for i, key := range s.keys {
		k := SecretKey{Fingerprint: fingerprint(key)}
		if s.until != nil {
			k.Until = s.until[i]
		}
		if k.Until.IsZero() || k.Until.After(now) {
			out = append(out, k)
		}
	}
	return out
}

func fingerprint(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:8])
}

// Locked reports that the secret can't be opened here.
func (s Secret) Locked() bool { return len(s.sealed) > 0 }

// WhyLocked says why the secret can't be opened here; empty when it is not Locked. It outlives what hides the secret itself.
func (s Secret) WhyLocked() string { return s.why }

// IsZero reports whether there is no key: notifications are then not signed.
func (s Secret) IsZero() bool { return len(s.keys) == 0 && len(s.sealed) == 0 }

func (s Secret) equal(o Secret) bool {
	if len(s.keys) != len(o.keys) || !bytes.Equal(s.sealed, o.sealed) || !slices.EqualFunc(s.until, o.until, time.Time.Equal) {
		return false
	}
	for i := range s.keys {
		if !bytes.Equal(s.keys[i], o.keys[i]) {
			return false
		}
	}
	return true
}

func (Secret) String() string { return "[secret]" }

// Format keeps every verb, %x and %d among them, from printing the key.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue keeps the key out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the key out of every encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
