package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The headers of Standard Webhooks 1.0.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

// Why Verify refuses.
var (
	ErrUnsigned     = errors.New("webhook-id, webhook-timestamp and webhook-signature are needed")
	ErrStale        = errors.New("the webhook-timestamp is too far from now")
	ErrBadSignature = errors.New("no signature matches: is it the same secret on both sides?")
)

// Sign returns the webhook-signature of a message: "v1," and base64 of HMAC-SHA256 over "id.timestamp.body", one for
// each key that has not ended, parted by spaces. at counts in whole seconds.
func Sign(id string, at time.Time, body []byte, secret Secret) string {
	var b strings.Builder
	for i, key := range secret.signing(at) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("v1,")
		b.WriteString(base64.StdEncoding.EncodeToString(mac(id, strconv.FormatInt(at.Unix(), 10), body, key)))
	}
	return b.String()
}

func mac(id, at string, body, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(id))
	h.Write([]byte{'.'})
	h.Write([]byte(at))
	h.Write([]byte{'.'})
	h.Write(body)
	return h.Sum(nil)
}

// Verify is the receiver's side of Sign: one of the signatures must be by one of the secret's keys, and the timestamp
// within tolerance of now.
func Verify(header http.Header, body []byte, secret Secret, tolerance time.Duration, now time.Time) error {
	id, at, signatures := header.Get(HeaderID), header.Get(HeaderTimestamp), header.Get(HeaderSignature)
	if id == "" || at == "" || signatures == "" {
		return ErrUnsigned
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return fmt.Errorf("webhook-timestamp is not a count of seconds: %w", ErrUnsigned)
	}
	if d := now.Sub(time.Unix(seconds, 0)); d > tolerance || d < -tolerance {
		return ErrStale
	}
	for _, key := range secret.keys {
		want := mac(id, at, body, key)
		for s := range strings.FieldsSeq(signatures) {
			encoded, ok := strings.CutPrefix(s, "v1,")
			if !ok {
				continue
			}
			if got, err := base64.StdEncoding.DecodeString(encoded); err == nil && hmac.Equal(got, want) {
				return nil
			}
		}
	}
	return ErrBadSignature
}
