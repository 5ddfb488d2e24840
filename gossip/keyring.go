package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/memberlist"

	"github.com/paramedic-ha/paramedic/gossip/durable"
)

// Keyring is what a peer starts with.
type Keyring struct {
	Keys []CipherKey // the first encrypts; none: no encryption
	File []CipherKey // what the key file says, when run-time changes of it have made Keys; else nil

	agreed agreement
}

// agreement is what the hosts of a cluster agreed on when an operator changed the keys at one of them. The one with the
// most changes wins, everywhere; between two of as many, both made at the same moment, the greater sum.
type agreement struct {
	changes uint64      // zero: none, each host goes by its key file
	keys    []CipherKey // the first is in use
	removed []string    // fingerprints of keys to be dropped by those who still have them, the newest first
}

// mark tells agreements apart: it is what a host says of its own in its metadata.
type mark struct{ changes, sum uint64 }

func (m mark) newer(o mark) bool {
	if m.changes != o.changes {
		return m.changes > o.changes
	}
	return m.sum > o.sum
}

const (
	maxRemoved    = 32
	maxKeyChanges = 1 << 32
)

func (a agreement) mark() mark {
	if a.changes == 0 {
		return mark{}
	}
	h := fnv.New64a()
	_, _ = h.Write(a.encode()) // never fails
	return mark{a.changes, h.Sum64()}
}

func (a agreement) clone() agreement {
	return agreement{a.changes, slices.Clone(a.keys), slices.Clone(a.removed)}
}

func (a agreement) find(fingerprint string) int {
	return slices.IndexFunc(a.keys, func(k CipherKey) bool { return k.String() == fingerprint })
}

// The message: version 1 · changes (8 bytes) · number of keys · each with its length · number of removed · 6 bytes each.
// It travels within the encryption of the gossip, and only there.
const agreementVersion = 1

func (a agreement) encode() []byte {
	b := binary.BigEndian.AppendUint64([]byte{agreementVersion}, a.changes)
	b = append(b, byte(len(a.keys)))
	for _, k := range a.keys {
		b = append(append(b, byte(len(k))), k...)
	}
	b = append(b, byte(len(a.removed)))
	for _, r := range a.removed {
		fingerprint, _ := hex.DecodeString(r) // checked when it came in
		b = append(b, fingerprint...)
	}
	return b
}

var errAgreement = errors.New("word about the gossip keys is malformed")

func decodeAgreement(b []byte) (agreement, error) {
	if len(b) < 10 || b[0] != agreementVersion {
		return agreement{}, errAgreement
	}
	a := agreement{changes: binary.BigEndian.Uint64(b[1:])}
	n := int(b[9])
	b = b[10:]
	for range n {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return agreement{}, errAgreement
		}
		a.keys = append(a.keys, bytes.Clone(b[1:1+int(b[0])]))
		b = b[1+int(b[0]):]
	}
	if len(b) == 0 || len(b) != 1+fingerprintSize*int(b[0]) {
		return agreement{}, errAgreement
	}
	for b = b[1:]; len(b) > 0; b = b[fingerprintSize:] {
		a.removed = append(a.removed, hex.EncodeToString(b[:fingerprintSize]))
	}
	return a, a.check()
}

// check refuses what no agent agrees on, whoever says it: it would leave us without a key.
func (a agreement) check() error {
	if a.changes == 0 || a.changes > maxKeyChanges || len(a.keys) == 0 || len(a.keys) > maxKeys || len(a.removed) > maxRemoved {
		return errAgreement
	}
	for i, k := range a.keys {
		if memberlist.ValidateKey(k) != nil || slices.Contains(a.removed, k.String()) || a.find(k.String()) != i {
			return errAgreement
		}
	}
	return nil
}

// keyringDocument is the file in the directory of the peer, 0600: the keys are in it.
type keyringDocument struct {
	Version int      `json:"version"`
	Origin  string   `json:"key_file"` // which key file it is a change of, see origin
	Changes uint64   `json:"changes"`
	Keys    []string `json:"keys"`
	Removed []string `json:"removed,omitempty"`
}

const (
	keyringFile    = "keyring.json"
	keyringVersion = 1
)

// origin tells key files apart.
func origin(keys []CipherKey) string {
	hash := sha256.New()
	for _, k := range keys {
		fmt.Fprintf(hash, "%s\n", k)
	}
	return hex.EncodeToString(hash.Sum(nil)[:8])
}

// LoadKeyring reads a key file and, when dir is not empty, what AddKey, UseKey and RemoveKey, here or at a peer, made of
// it since. The newer word wins: a key file that was changed after them puts their changes aside, until the peers tell
// of them again. So a changed file lets a host in that was away while the keys were changed.
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
	path := filepath.Join(dir, keyringFile)
	if err := durable.Sweep(path); err != nil { // there are keys in it
		return Keyring{}, fmt.Errorf("read the gossip keyring: %w", err)
	}
	ring, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Keyring{Keys: keys}, nil
	}
	if err != nil {
		return Keyring{}, fmt.Errorf("read the gossip keyring: %w", err)
	}
	from, agreed, err := parseKeyring(ring)
	if err != nil {
		return Keyring{}, fmt.Errorf("read the gossip keyring: %s: %w; remove the file to start again from %s", path, err, file)
	}
	if from != origin(keys) && !sameKeys(agreed.keys, keys) {
		return Keyring{Keys: keys}, nil
	}
	return Keyring{Keys: agreed.keys, File: keys, agreed: agreed}, nil
}

func parseKeyring(text []byte) (origin string, a agreement, err error) {
	var doc keyringDocument
	if err := json.Unmarshal(text, &doc); err != nil {
		return "", a, errors.New("it is not what this agent writes") // the library's error may repeat a part of it
	}
	if doc.Version != keyringVersion {
		return "", a, fmt.Errorf("version %d is unknown, this agent writes %d", doc.Version, keyringVersion)
	}
	a = agreement{changes: doc.Changes, removed: doc.Removed}
	for i, text := range doc.Keys {
		key, err := ParseKey(text)
		if err != nil {
			return "", a, fmt.Errorf("key %d is %w", i+1, err)
		}
		a.keys = append(a.keys, key)
	}
	for _, r := range doc.Removed {
		if b, err := hex.DecodeString(r); err != nil || len(b) != fingerprintSize {
			return "", a, errors.New("a removed key has no fingerprint")
		}
	}
	return doc.Origin, a, a.check()
}

func (a agreement) save(dir string, file []CipherKey) error {
	doc := keyringDocument{Version: keyringVersion, Origin: origin(file), Changes: a.changes, Removed: a.removed}
	for _, k := range a.keys {
		doc.Keys = append(doc.Keys, base64.StdEncoding.EncodeToString(k))
	}
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return err
	}
	return durable.Replace(filepath.Join(dir, keyringFile), append(text, '\n'))
}

// sameKeys: the same one in use, and the same others in any order.
func sameKeys(a, b []CipherKey) bool {
	if len(a) != len(b) || len(a) == 0 || !bytes.Equal(a[0], b[0]) {
		return false
	}
	return !slices.ContainsFunc(a, func(k CipherKey) bool { return !hasKey(b, k) })
}

func hasKey(keys []CipherKey, key CipherKey) bool {
	return slices.ContainsFunc(keys, func(k CipherKey) bool { return bytes.Equal(k, key) })
}
