package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// query reads the parameters of a URL and keeps the first error, which names the parameter and the remedy.
type query struct {
	values url.Values
	err    error
}

// newQuery takes a request's raw query, in which only the named parameters may stand, each once.
func newQuery(raw string, allowed ...string) *query {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return &query{err: badRequest("the query %q can't be read: %v", raw, err)}
	}
	q := &query{values: values}
	for name, given := range values {
		switch {
		case !slices.Contains(allowed, name) && len(allowed) == 0:
			q.fail("parameter %q is not known: there is none here", name)
		case !slices.Contains(allowed, name):
			q.fail("parameter %q is not known: the parameters are %s", name, strings.Join(allowed, ", "))
		case len(given) > 1:
			q.fail("parameter %q stands %d times: give it once", name, len(given))
		}
	}
	return q
}

func (q *query) fail(format string, args ...any) {
	if q.err == nil {
		q.err = badRequest(format, args...)
	}
}

// failPlace says that the place of a page is not one that was given out.
func (q *query) failPlace(parameter, given string) {
	q.fail("parameter %s=%q: want the \"next\" of an earlier page, unchanged", parameter, given)
}

func (q *query) text(name string) string { return q.values.Get(name) }

// choice is one of the options; the first one when absent.
func (q *query) choice(name string, options ...string) string {
	given := q.values.Get(name)
	if given == "" {
		return options[0]
	}
	if !slices.Contains(options, given) {
		q.fail("parameter %s=%q: want one of %s", name, given, strings.Join(slices.DeleteFunc(slices.Clone(options), func(s string) bool { return s == "" }), ", "))
	}
	return given
}

func (q *query) number(name string, otherwise, most int) int {
	given := q.values.Get(name)
	if given == "" {
		return otherwise
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 || n > most {
		q.fail("parameter %s=%q: want a number from 1 to %d", name, given, most)
		return otherwise
	}
	return n
}

func (q *query) time(name string) time.Time {
	given := q.values.Get(name)
	if given == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, given)
	if err != nil {
		q.fail("parameter %s=%q: want an RFC 3339 time, for instance 2026-11-22T10:00:00Z", name, given)
	}
	return t
}
