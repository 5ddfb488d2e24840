package gossip

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
)

// CipherKey is one key of the gossip: 16, 24 or 32 bytes (AES-128, -192 or -256). It does not print itself.
type CipherKey []byte

// String is the fingerprint: enough to tell keys apart, nothing to open a message with.
func (k CipherKey) String() string {
	sum := sha256.Sum256(append([]byte("paramedic gossip key\x00"), k...))
	return hex.EncodeToString(sum[:fingerprintSize])
}

// GoString is String: %#v must not print the key either.
func (k CipherKey) GoString() string { return k.String() }

// Format prints the fingerprint under every verb, %x and %s among them.
func (k CipherKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.String()) }

// MarshalText is the fingerprint, so that a key that strays into JSON or a log stays secret.
func (k CipherKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

const fingerprintSize = 6 // bytes

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
		return nil, errors.New(`not base64; "paramedic keygen --gossip" makes a key`)
	}
	if memberlist.ValidateKey(key) != nil {
		return nil, fmt.Errorf(`%d bytes long, not 16, 24 or 32; "paramedic keygen --gossip" makes a key`, len(key))
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
		return nil, errors.New(`there is no key in it; "paramedic keygen --gossip" makes one`)
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("there are %d keys in it, more than %d: remove old ones", len(keys), maxKeys)
	}
	return keys, nil
}
