package cli

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzReceived has anybody post anything to a receiver without a secret: it answers, and what it prints harms no terminal.
func FuzzReceived(f *testing.F) {
	f.Add([]byte(`{"id":"1","source":"/paramedic/prod","type":"paramedic.verification","data":{"challenge":"abc"}}`))
	f.Add([]byte(`{"type":"paramedic.fault.raised","subject":"host/cmp-1","data":{"reporter":"a","alarm":{"id":"1","severity":"critical","text":"x"},
"affected":[{"name":"vm\u001b[2J"}],"timeline":{"T00":"2026-11-22T10:00:00Z","T01":"9999-12-31T23:59:59Z"}}}`))
	f.Add([]byte("{\"type\":\"\x9b31m\",\"data\":{\"text\":\"\xff\u202e\"}}"))
	f.Add([]byte("[\x1b"))
	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, format := range []string{"table", "json", "yaml"} {
			var out bytes.Buffer
			now := func() time.Time { return at }
			r := &receiver{command: &receiveCommand{Status: http.StatusNoContent}, now: now, out: &printer{w: &out, format: format, now: now}}
			w := httptest.NewRecorder()
			r.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", bytes.NewReader(body)))
			if err := r.out.failed(); err != nil {
				t.Fatal(err)
			}
			if s := out.String(); !utf8.ValidString(s) || strings.ContainsFunc(strings.ReplaceAll(s, "\n", ""), unprintable) || format != "yaml" && strings.Count(s, "\n") != 1 {
				t.Fatalf("%s prints %q of %q", format, s, body)
			}
			if w.Code == http.StatusOK && !json.Valid(w.Body.Bytes()) {
				t.Fatalf("answers %q", w.Body)
			}
		}
	})
}
