package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func ring(t testing.TB, lines ...string) *Keyring {
	t.Helper()
	r, err := ParseKeyring([]byte(strings.Join(lines, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestWhatIsSealedOpensUnderItsContextOnly(t *testing.T) {
	r := ring(t, GenerateKey())
	for _, plain := range []string{"", "whsec_abc", strings.Repeat("x", 5000)} {
		sealed := r.Seal([]byte(plain), []byte("sub-1"))
		if plain != "" && bytes.Contains(sealed, []byte(plain)) {
			t.Error("the text shows through")
		}
		if again := r.Seal([]byte(plain), []byte("sub-1")); bytes.Equal(sealed, again) {
			t.Error("sealed twice to the same bytes")
		}
		if got, err := r.Open(sealed, []byte("sub-1")); err != nil || string(got) != plain {
			t.Errorf("opened %q, %v", got, err)
		}
		if _, err := r.Open(sealed, []byte("sub-2")); !errors.Is(err, ErrDamaged) {
			t.Errorf("opened under another context: %v", err)
		}
		for i := range min(len(sealed), 100) {
			altered := bytes.Clone(sealed)
			altered[i] ^= 0x40
			if _, err := r.Open(altered, []byte("sub-1")); err == nil {
				t.Errorf("opened with byte %d altered", i)
			}
		}
		for n := range min(len(sealed), 100) {
			if _, err := r.Open(sealed[:n], []byte("sub-1")); !errors.Is(err, ErrDamaged) {
				t.Errorf("cut to %d bytes: %v", n, err)
			}
		}
	}
}

// What the first version sealed can be opened for ever: it rests on disks, and hosts are replaced one by one.
func TestWhatTheFirstVersionSealedOpens(t *testing.T) {
	sealed, err := hex.DecodeString("01b6661c06dfb503bd73a3bce928397596b2583d19c78a8741414156d1e18bd956bb8e425638446e292dd9122401c46d1f7e6a")
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ring(t, prefix+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))).Open(sealed, []byte("sub-1"))
	if err != nil || string(plain) != "a signing secret" {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestTheFirstKeySealsAndAllOpen(t *testing.T) {
	old, fresh := GenerateKey(), GenerateKey()
	before := ring(t, old)
	during := ring(t, fresh, old)
	after := ring(t, "# the new one", "", fresh, fresh)
	sealed := before.Seal([]byte("a"), nil)
	if _, err := during.Open(sealed, nil); err != nil {
		t.Error(err)
	}
	_, err := after.Open(sealed, nil)
	if !errors.Is(err, ErrKey) || !strings.Contains(err.Error(), before.IDs()[0]) || !strings.Contains(err.Error(), "cluster.secrets_key_file") {
		t.Errorf("the error does not say which key is missing: %v", err)
	}
	if _, err := after.Open(during.Seal([]byte("b"), nil), nil); err != nil {
		t.Error(err)
	}
	if len(after.IDs()) != 1 || after.IDs()[0] != during.IDs()[0] {
		t.Errorf("ids %v and %v", during.IDs(), after.IDs())
	}
}

func TestABadKeyFileIsToldByLineWithoutItsContents(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "no key",
		"# nothing\n\n":                "no key",
		"HUSHHUSH":                     `line 1: a key does not begin with "sealkey_"`,
		GenerateKey() + "\nwhsec_HUSH": "line 2: a key does not begin",
		"sealkey_HUSH!":                "line 1: what follows \"sealkey_\" is not base64",
		"sealkey_SFVTSA==":             "line 1: the key has 4 bytes, want 32",
		many(maxKeys + 1):              "9 keys",
	} {
		_, err := ParseKeyring([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "HUSH") || strings.Contains(err.Error(), "SFVT") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func many(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(GenerateKey() + "\n")
	}
	return b.String()
}

func TestNothingPrintsAKey(t *testing.T) {
	line := GenerateKey()
	r := ring(t, line)
	encoded := strings.TrimPrefix(line, prefix)
	raw, _ := base64.StdEncoding.DecodeString(encoded)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "ring", r)
	asJSON, err := json.Marshal(map[string]any{"ring": r})
	if err != nil {
		t.Fatal(err)
	}
	for _, shown := range []string{
		fmt.Sprint(r), fmt.Sprintf("%x %v %+v %#v %s %d", r, r, r, r, r, r), fmt.Sprintf("%+v", struct{ R *Keyring }{r}), log.String(), string(asJSON),
	} {
		if strings.Contains(shown, encoded) || strings.Contains(shown, string(raw)) || strings.Contains(shown, fmt.Sprintf("%x", raw)) {
			t.Errorf("prints the key: %s", shown)
		}
		if !strings.Contains(shown, r.IDs()[0]) && !strings.Contains(shown, "0x") {
			t.Errorf("does not say which: %s", shown)
		}
	}
}

// Whatever the bytes: no panic, and nothing opens that was not sealed.
func FuzzOpen(f *testing.F) {
	r := ring(f, "sealkey_"+base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, keySize)))
	good := r.Seal([]byte("plain"), []byte("context"))
	f.Add(good, []byte("context"))
	f.Add(good[:headSize+overhead], []byte{})
	f.Add([]byte{version}, []byte{})
	f.Fuzz(func(t *testing.T, sealed, context []byte) {
		plain, err := r.Open(sealed, context)
		switch {
		case err == nil && (string(context) != "context" || string(plain) != "plain"): // the nonce is another in each process
			t.Errorf("opened %x to %q", sealed, plain)
		case err != nil && !errors.Is(err, ErrKey) && !errors.Is(err, ErrDamaged):
			t.Errorf("an error of neither kind: %v", err)
		}
	})
}

// Whatever the bytes: no panic, and a ring that is read works.
func FuzzParseKeyring(f *testing.F) {
	f.Add([]byte(GenerateKey()))
	f.Add([]byte("# x\r\n" + GenerateKey() + "\r\n"))
	f.Add([]byte("sealkey_"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ParseKeyring(text)
		if err != nil {
			return
		}
		if plain, err := r.Open(r.Seal([]byte("a"), []byte("b")), []byte("b")); err != nil || string(plain) != "a" {
			t.Errorf("%q, %v", plain, err)
		}
	})
}
