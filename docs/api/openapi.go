// Package openapi carries the description of the HTTP API, so that there is one copy of it: the agent serves what
// this directory holds.
package openapi

import (
	_ "embed"
)

//go:embed openapi.yaml
var document string

// Document returns the OpenAPI 3.1 description, YAML.
func Document() []byte { return []byte(document) }
