package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strings"
)

const maxBody = 1 << 20

// readBody reads a request's JSON into v, a pointer to a struct. It is strict: the media type, the size, unknown,
// doubled and null members, wrong types and trailing data are refusals that name the member.
func readBody(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := readJSON(w, r)
	if err != nil {
		return err
	}
	return decode(body, v)
}

// readJSON reads a request's body, and judges its media type and size alone.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" && (r.Method != http.MethodPatch || media != "application/merge-patch+json") {
		return nil, &refusal{
			http.StatusUnsupportedMediaType, "media-type", "the body's media type is not understood",
			fmt.Sprintf("content type %q: send JSON with Content-Type: application/json", r.Header.Get("Content-Type")),
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &refusal{
			http.StatusRequestEntityTooLarge, "too-large", "the body is too large",
			fmt.Sprintf("the body has more than %d bytes: send a smaller one", tooLarge.Limit),
		}
	}
	if err != nil {
		return nil, badRequest("read the body: %v", err)
	}
	return body, nil
}

// decode is readBody behind the transport.
func decode(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := checkValue(d, reflect.TypeOf(v).Elem(), ""); err != nil {
		return err
	}
	end := d.InputOffset()
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the body goes on after byte %d: send one JSON object and nothing behind it", end)
	}
	var wrong *json.UnmarshalTypeError
	if err := json.Unmarshal(body, v); errors.As(err, &wrong) {
		return badRequest("%s: want %s, not %s", wrong.Field, jsonName(wrong.Type), wrong.Value)
	} else if err != nil {
		return badRequest("the body is not the JSON that is wanted here: %v", err)
	}
	return nil
}

// checkValue walks the next value beside the type that it is for. encoding/json alone takes doubled names (the last
// wins), names in another case, and null for everything.
func checkValue(d *json.Decoder, t reflect.Type, path string) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := d.Token()
	if err != nil {
		return badJSON(err, d.InputOffset())
	}
	at := path
	if at == "" {
		at = "the body"
	}
	switch token {
	case nil:
		return badRequest("%s: null says nothing: leave it out, or give %s", at, jsonName(t))
	case json.Delim('{'):
		if t.Kind() != reflect.Struct && t.Kind() != reflect.Map {
			return badRequest("%s: want %s, not an object", at, jsonName(t))
		}
		return checkMembers(d, t, path)
	case json.Delim('['):
		if t.Kind() != reflect.Slice {
			return badRequest("%s: want %s, not a list", at, jsonName(t))
		}
		for i := 0; d.More(); i++ {
			if err := checkValue(d, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
		if _, err := d.Token(); err != nil {
			return badJSON(err, d.InputOffset())
		}
		return nil
	}
	if scalar, got := jsonName(t), tokenName(token); scalar != got {
		return badRequest("%s: want %s, not %s", at, scalar, got)
	}
	return nil
}

// checkMembers is checkValue for the members of an object: of a struct those that it has, of a map any.
func checkMembers(d *json.Decoder, t reflect.Type, path string) error {
	members := make(map[string]reflect.Type)
	var names []string
	if t.Kind() == reflect.Struct {
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			members[name] = f.Type
			names = append(names, name)
		}
	}
	seen := make(map[string]bool)
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return badJSON(err, d.InputOffset())
		}
		name, _ := token.(string) // in an object the decoder gives a string or an error
		at := name
		if path != "" {
			at = path + "." + name
		}
		member, known := members[name]
		if t.Kind() == reflect.Map {
			member, known = t.Elem(), true
		}
		switch {
		case !known:
			return badRequest("%q is not known here: the names are %s", at, strings.Join(names, ", "))
		case seen[name]:
			return badRequest("%q stands twice: keep one", at)
		}
		seen[name] = true
		if err := checkValue(d, member, at); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return badJSON(err, d.InputOffset())
	}
	return nil
}

func badJSON(err error, offset int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badRequest("the body ends at byte %d inside a JSON value: send it whole", offset)
	}
	return badRequest("the body is not JSON at byte %d: %v", offset, err)
}

// jsonName is what people call the JSON for t.
func jsonName(t reflect.Type) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice:
		return "a list"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	default:
		return "a number"
	}
}

func tokenName(token json.Token) string {
	switch token.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false"
	default:
		return "a number"
	}
}
