package notify

import "log/slog"

// Secret signs a subscription's notifications. It prints as "[secret]" wherever it is formatted, logged or marshalled.
type Secret struct{ key []byte }

// NewSecret holds a copy of the raw key (24–64 bytes, Standard Webhooks 1.0).
func NewSecret(key []byte) Secret { return Secret{key: append([]byte(nil), key...)} }

// IsZero reports whether there is no key: notifications are then not signed.
func (s Secret) IsZero() bool { return len(s.key) == 0 }

func (Secret) String() string { return "[secret]" }

// GoString keeps %#v from printing the key.
func (s Secret) GoString() string { return s.String() }

// LogValue keeps the key out of logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText keeps the key out of every encoding.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
