// Package correlate turns what a host's sources observe into alarms.
//
// It is pure: no clock, goroutine, I/O or randomness. Time is an argument, order is the order of calls, and what
// must happen outside is a value that the caller carries out (Effects). A test (deps_test.go) holds it to that.
//
// The vocabulary lives in resource.go, topology.go, event.go and alarm.go; the health rule in health.go; what each
// condition means in rule.go; the engine that joins them in engine.go.
//
// Everything handed to the engine, and everything that it hands out, is immutable from then on: callers copy what
// they want to change. The engine itself is not safe for concurrent use; one goroutine owns it (agent/loop.go).
package correlate
