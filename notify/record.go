package notify

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// recordVersion leads every value of the outbox; a reader understands its own and the one before.
const recordVersion = 1

// alarmRecord is the newest revision of an alarm, with its times.
type alarmRecord correlate.Change

// pairRecord is what a subscription is owed, or was told, of an alarm.
type pairRecord delivery.Record

// subscriptionRecord keeps an API subscription whole. Of a file's only the id, version, digest and pause are kept, so
// that notification ids stay the same across restarts while the contents do.
type subscriptionRecord struct {
	Subscription
	Secret *Secret  `json:",omitempty"` // always nil: hides the embedded one, which marshals as "[secret]"
	Keys   [][]byte `json:",omitempty"` // the secret of an API subscription; the file is 0600
	Digest string   `json:",omitempty"` // of a file's contents
}

// termRecord is the term of this host; it has no version, for it is read before anything else.
type termRecord uint64

func encodeRecord(v any) ([]byte, error) {
	if term, ok := v.(termRecord); ok {
		return binary.BigEndian.AppendUint64(nil, uint64(term)), nil
	}
	b := bytes.NewBuffer(make([]byte, 0, 512))
	b.WriteByte(recordVersion)
	if err := json.NewEncoder(b).Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

var errRecord = errors.New("damaged record")

func decodeRecord(b []byte, into any) error {
	if len(b) == 0 {
		return fmt.Errorf("%w: it is empty", errRecord)
	}
	if b[0] != recordVersion {
		return fmt.Errorf("%w: version %d, want %d", errRecord, b[0], recordVersion)
	}
	if err := json.Unmarshal(b[1:], into); err != nil {
		return fmt.Errorf("%w: %w", errRecord, err)
	}
	return nil
}

func decodeAlarm(key string, b []byte) (alarmRecord, error) {
	var r alarmRecord
	if err := decodeRecord(b, &r); err != nil {
		return alarmRecord{}, err
	}
	if r.Alarm == nil || r.Alarm.ID != key || r.Alarm.Revision == (correlate.Revision{}) {
		return alarmRecord{}, fmt.Errorf("%w: it is not alarm %q", errRecord, key)
	}
	return r, nil
}

func decodePair(alarmID string, b []byte) (pairRecord, error) {
	var r pairRecord
	if err := decodeRecord(b, &r); err != nil {
		return pairRecord{}, err
	}
	if r.AlarmID != alarmID {
		return pairRecord{}, fmt.Errorf("%w: it is not of alarm %q", errRecord, alarmID)
	}
	return r, nil
}

func decodeSubscription(id string, b []byte) (subscriptionRecord, error) {
	var r subscriptionRecord
	if err := decodeRecord(b, &r); err != nil {
		return subscriptionRecord{}, err
	}
	if r.ID != id || r.Origin != OriginAPI && r.Origin != OriginFile {
		return subscriptionRecord{}, fmt.Errorf("%w: it is not subscription %q", errRecord, id)
	}
	r.Subscription.Secret, r.Secret = Secret{keys: r.Keys}, nil
	return r, nil
}
