package ipmi

import (
	"context"
	"testing"
)

// Whatever a BMC answers, reading its records and its log ends, and nothing panics.
func FuzzReaders(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 1, 0, 18, 0xFF, 0xFF, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0xC5, 2, 1, 0, 0xCA, 7, 1, 0, 0, 0, 0x51, 1, 9, 0xC3})
	f.Fuzz(func(t *testing.T, script []byte) {
		asked := 0
		ask := func(context.Context, Request) ([]byte, error) {
			asked++
			if len(script) == 0 {
				return nil, errSilent
			}
			n := int(script[0])
			script = script[1:]
			if n >= 0xC0 {
				return nil, CompletionError(n)
			}
			n = min(n, len(script))
			answer := script[:n]
			script = script[n:]
			return answer, nil
		}
		all := len(script)
		_, _, _, _ = sdrRepository(ask).records(context.Background())
		e := &eventLog{ask: ask}
		for range 100 {
			_, more, err := e.news(context.Background(), func(r logRecord) bool { return r[3]&1 != 0 })
			if err != nil || !more {
				break
			}
		}
		if asked > all+10 {
			t.Errorf("%d commands for %d bytes of answers", asked, all)
		}
	})
}
