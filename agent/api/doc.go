// Package api serves the agent over HTTP on a Unix socket: state, streams and subscriptions as JSON under /v1.
//
// Who may open the socket is an administrator (mode 0660 in a directory of mode 0750). The routes are one table
// (routes.go); docs/api/openapi.yaml describes them, and a test holds the running server against it.
package api
