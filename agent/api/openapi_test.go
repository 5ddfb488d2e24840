package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	openapi "github.com/paramedic-ha/paramedic/docs/api"
)

// description is docs/api/openapi.yaml, ready to check answers with.
type description struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Responses map[string]response `json:"responses"`
	} `json:"components"`
	schemas *jsonschema.Compiler
}

type operation struct {
	OperationID string `json:"operationId"`
	Parameters  []parameter
	RequestBody *struct {
		Content map[string]media
	}
	Responses map[string]response
}

type parameter struct {
	Name, In string
	Required bool
}

type response struct {
	Ref     string `json:"$ref"`
	Content map[string]media
}

type media struct {
	Schema map[string]any
}

const documentURL = "http://localhost/v1/openapi.json"

func readDescription(t *testing.T) *description {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal(openapi.Document(), &tree); err != nil {
		t.Fatal(err)
	}
	// Clients must bear fields that are added; the server must not send any that are not described.
	for name, s := range tree.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any) {
		schema := s.(map[string]any)
		if _, given := schema["additionalProperties"]; given {
			continue
		}
		if _, given := schema["properties"]; !given {
			t.Fatalf("schema %s has no properties", name)
		}
		schema["additionalProperties"] = false
	}
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	var d description
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	d.schemas = jsonschema.NewCompiler()
	d.schemas.DefaultDraft(jsonschema.Draft2020) // OpenAPI 3.1: 4.8.24
	d.schemas.AssertFormat()
	if err := d.schemas.AddResource(documentURL, parsed); err != nil {
		t.Fatal(err)
	}
	return &d
}

// find returns the path and operation that serve a request.
func (d *description) find(method, path string) (string, operation, bool) {
	path, _, _ = strings.Cut(path, "?")
	best := ""
	for template := range d.Paths {
		if _, ok := d.Paths[template][strings.ToLower(method)]; ok && matches(template, path) && len(template) > len(best) {
			best = template
		}
	}
	return best, d.Paths[best][strings.ToLower(method)], best != ""
}

// matches says whether a path is one of a template; the id of a resource may hold slashes.
func matches(template, path string) bool {
	if template == "/v1/resources/{id}" {
		return strings.HasPrefix(path, "/v1/resources/")
	}
	return slices.EqualFunc(strings.Split(template, "/"), strings.Split(path, "/"), func(want, got string) bool {
		return want == got || strings.HasPrefix(want, "{")
	})
}

// check holds an answer against what the document says of it and returns "METHOD /path status".
func (d *description) check(method, path string, status int, header http.Header, body []byte) (string, error) {
	template, op, ok := d.find(method, path)
	if !ok {
		return "", d.checkProblem(status, header, body) // not described: then only as a refusal
	}
	what := fmt.Sprintf("%s %s %d", method, template, status)
	res, ok := op.Responses[strconv.Itoa(status)]
	if !ok {
		return what, fmt.Errorf("%s is not described; the body is %s", what, body)
	}
	at := []string{"paths", template, strings.ToLower(method), "responses", strconv.Itoa(status)}
	if name, isRef := strings.CutPrefix(res.Ref, "#/components/responses/"); isRef {
		res, at = d.Components.Responses[name], []string{"components", "responses", name}
	}
	if len(res.Content) == 0 {
		if len(body) != 0 {
			return what, fmt.Errorf("%s has a body: %s", what, body)
		}
		return what, nil
	}
	mediaType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return what, fmt.Errorf("%s: content type: %w", what, err)
	}
	if _, ok := res.Content[mediaType]; !ok {
		return what, fmt.Errorf("%s: content type %s is not described", what, mediaType)
	}
	if !strings.HasSuffix(mediaType, "json") {
		return what, nil
	}
	return what, d.validate(append(at, "content", mediaType, "schema"), body)
}

func (d *description) checkProblem(status int, header http.Header, body []byte) error {
	if status < 400 || header.Get("Content-Type") != "application/problem+json" {
		return fmt.Errorf("status %d with %q is not described", status, header.Get("Content-Type"))
	}
	return d.validate([]string{"components", "schemas", "Problem"}, body)
}

func (d *description) validate(at []string, body []byte) error {
	pointer := ""
	for _, token := range at {
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(token)
	}
	schema, err := d.schemas.Compile(documentURL + "#" + pointer)
	if err != nil {
		return fmt.Errorf("compile %s: %w", pointer, err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("decode %s: %w", body, err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("%w\nthe body is %s", err, body)
	}
	return nil
}

// send makes a request and checks the answer; body nil is none, a string is sent as it is, anything else as JSON.
func (c *client) send(method, path string, body any) (*http.Response, []byte) {
	c.t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			c.t.Fatal(err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://localhost"+path, content)
	if err != nil {
		c.t.Fatal(err)
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.do(req)
}

func (c *client) do(req *http.Request) (*http.Response, []byte) {
	c.t.Helper()
	res, err := c.http.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if req.Method != http.MethodHead {
		what, err := c.doc.check(req.Method, req.URL.Path, res.StatusCode, res.Header, got)
		if err != nil {
			c.t.Errorf("%s %s: %v", req.Method, req.URL, err)
		}
		c.seen[what] = true
		c.explained(got)
	}
	return res, got
}

// explained checks that the type of a problem leads to its heading in docs/api.md.
func (c *client) explained(body []byte) {
	c.t.Helper()
	var p Problem
	if json.Unmarshal(body, &p) != nil || p.Type == "" {
		return
	}
	anchor, ok := strings.CutPrefix(p.Type, problemTypes)
	if !ok || !strings.Contains(guide(c.t), "\n### "+anchor+"\n") {
		c.t.Errorf("the problem's type %s is not explained in docs/api.md", p.Type)
	}
}

// get decodes a success.
func get[T any](c *client, method, path string, body any, status int) T {
	c.t.Helper()
	res, got := c.send(method, path, body)
	if res.StatusCode != status {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, status, got)
	}
	var v T
	if err := json.Unmarshal(got, &v); err != nil {
		c.t.Fatal(err)
	}
	return v
}

// problem returns a refusal.
func (c *client) problem(method, path string, body any, status int) Problem {
	c.t.Helper()
	return get[Problem](c, method, path, body, status)
}

func TestEveryRouteIsDescribedAndEveryDescribedRouteIsServed(t *testing.T) {
	d := readDescription(t)
	var served, reserved []string
	for _, r := range new(Server).routes(prometheus.NewRegistry()) {
		name := r.method + " " + strings.Replace(r.path, "...}", "}", 1)
		if r.reserved {
			reserved = append(reserved, name)
			continue
		}
		served = append(served, name)
		for segment := range strings.SplitSeq(name, "/") {
			variable, ok := strings.CutPrefix(segment, "{")
			if !ok {
				continue
			}
			_, op, _ := d.find(r.method, strings.TrimPrefix(name, r.method+" "))
			if !slices.Contains(op.Parameters, parameter{Name: strings.TrimSuffix(variable, "}"), In: "path", Required: true}) {
				t.Errorf("%s: path parameter {%s is not described", name, variable)
			}
		}
	}
	var described []string
	ids := make(map[string]bool)
	for path, operations := range d.Paths {
		for method, op := range operations {
			described = append(described, strings.ToUpper(method)+" "+path)
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s %s: operationId %q is missing or stands twice", method, path, op.OperationID)
			}
			ids[op.OperationID] = true
		}
	}
	for _, name := range served {
		if !slices.Contains(described, name) {
			t.Errorf("%s is served and not described", name)
		}
	}
	for _, name := range described {
		if !slices.Contains(served, name) {
			t.Errorf("%s is described and not served", name)
		}
	}
	for _, name := range reserved {
		if slices.Contains(described, name) {
			t.Errorf("%s is not yet built, but described", name)
		}
	}
}

func TestTheServedDocumentIsTheOneInDocs(t *testing.T) {
	c := serve(t, newHost(t))
	_, got := c.send("GET", "/v1/openapi.yaml", nil)
	want, err := os.ReadFile("../../docs/api/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the served document is another than docs/api/openapi.yaml")
	}
}
