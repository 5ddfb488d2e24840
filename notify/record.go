package notify

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// recordVersion leads every value of the outbox; a reader understands its own and the one before.
const recordVersion = 2

// alarmRecord is the newest revision of an alarm, with its times.
type alarmRecord correlate.Change

// pairRecord is what a subscription is owed, or was told, of an alarm.
type pairRecord delivery.Record

// subscriptionRecord keeps a subscription of the API, or of another host's file, whole. Of our own file's only the id,
// digest and pause are kept, since the contents come back with the file.
type subscriptionRecord struct {
	Subscription
	Secret      *Secret     `json:",omitempty"` // always nil: hides the embedded one, which marshals as "[secret]"
	Keys        [][]byte    `json:",omitempty"` // the secret, bare, in version 1 and where there is no Sealer; the file is 0600
	Until       []time.Time `json:",omitempty"` // when each of Keys ends; nil: none does
	Sealed      []byte      `json:",omitempty"` // the secret as Secret.Seal wrote it, under the id
	Bare        []byte      `json:",omitempty"` // the credentials where there is no Sealer
	Credentials []byte      `json:",omitempty"` // as Credentials.Seal wrote them
	Digest      string      `json:",omitempty"` // of a file's contents
	Refused     uint64      `json:",omitempty"` // the version that its consumer answered here with 410
	Rebuilt     Rebuilt     `json:",omitzero"`
}

// muteRecord is a mute that has not ended.
type muteRecord Mute

// termRecord is the term of this host; it has no version, for it is read before anything else.
type termRecord uint64

func encodeRecord(v any) ([]byte, error) {
	if term, ok := v.(termRecord); ok {
		return binary.BigEndian.AppendUint64(nil, uint64(term)), nil
	}
	if raw, ok := v.(rawRecord); ok {
		return raw, nil
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
	if b[0] != recordVersion && b[0] != recordVersion-1 {
		return fmt.Errorf("%w: version %d, want %d or %d", errRecord, b[0], recordVersion-1, recordVersion)
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

func decodeMute(id string, b []byte) (muteRecord, error) {
	var r muteRecord
	if err := decodeRecord(b, &r); err != nil {
		return muteRecord{}, err
	}
	if r.ID != id || id == "" || r.Until.IsZero() {
		return muteRecord{}, fmt.Errorf("%w: it is not mute %q", errRecord, id)
	}
	return r, nil
}

// decodeSubscription fails for a damaged record. A secret that can't be opened is no damage: it comes back Locked.
func decodeSubscription(id string, b []byte, by Sealer) (subscriptionRecord, error) {
	var r subscriptionRecord
	if err := decodeRecord(b, &r); err != nil {
		return subscriptionRecord{}, err
	}
	if r.ID != id || r.Origin != OriginAPI && r.Origin != OriginFile && r.Origin != OriginPeer {
		return subscriptionRecord{}, fmt.Errorf("%w: it is not subscription %q", errRecord, id)
	}
	if r.Until != nil && len(r.Until) != len(r.Keys) {
		return subscriptionRecord{}, fmt.Errorf("%w: %d ends of %d keys", errRecord, len(r.Until), len(r.Keys))
	}
	r.Subscription.Secret, r.Secret = Secret{keys: r.Keys, until: r.Until}, nil
	if len(r.Sealed) > 0 {
		r.Subscription.Secret, _ = OpenSecret(r.Sealed, by, []byte(id)) // the secret itself knows why it is locked
	}
	if len(r.Bare) > 0 {
		r.Subscription.Credentials, _ = OpenCredentials(r.Bare, nil, id)
	} else {
		r.Subscription.Credentials, _ = OpenCredentials(r.Credentials, by, id)
	}
	return r, nil
}
