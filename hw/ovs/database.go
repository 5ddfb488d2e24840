package ovs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// columns are those that are watched. Statistics are not among them: they change all the time. All are there since Open
// vSwitch 2.5.
var columns = map[string][]string{
	"Open_vSwitch": {"ovs_version"},
	"Bridge":       {"name", "datapath_type", "ports"},
	"Port":         {"name", "interfaces", "bond_mode", "lacp"},
	"Interface": {
		"name", "type", "admin_state", "link_state", "error", "status", "options", "external_ids", "mac_in_use",
		"link_speed", "mtu", "bfd", "bfd_status", "lacp_current",
	},
}

// value is a column: a set of atoms (one, for a plain value) or a map. Atoms are kept as text (RFC 7047 section 5.1).
type value struct {
	atoms []string
	pairs map[string]string
}

var errValue = errors.New("not a value of OVSDB")

// UnmarshalJSON implements json.Unmarshaler.
func (v *value) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var x any
	if err := dec.Decode(&x); err != nil {
		return fmt.Errorf("%w: %w", errValue, err)
	}
	*v = value{}
	if a, ok := atom(x); ok {
		v.atoms = []string{a}
		return nil
	}
	kind, list, ok := tagged(x)
	if !ok {
		return errValue
	}
	switch kind {
	case "set":
		for _, e := range list {
			a, ok := atom(e)
			if !ok {
				return errValue
			}
			v.atoms = append(v.atoms, a)
		}
	case "map":
		v.pairs = make(map[string]string, len(list))
		for _, e := range list {
			pair, ok := e.([]any)
			if !ok || len(pair) != 2 {
				return errValue
			}
			key, ok1 := atom(pair[0])
			val, ok2 := atom(pair[1])
			if !ok1 || !ok2 {
				return errValue
			}
			v.pairs[key] = val
		}
	default:
		return errValue
	}
	return nil
}

// tagged takes ["set", […]] and ["map", […]] apart.
func tagged(x any) (kind string, list []any, ok bool) {
	two, ok := x.([]any)
	if !ok || len(two) != 2 {
		return "", nil, false
	}
	kind, ok1 := two[0].(string)
	list, ok2 := two[1].([]any)
	return kind, list, ok1 && ok2
}

func atom(x any) (string, bool) {
	switch x := x.(type) {
	case string:
		return x, true
	case json.Number:
		return x.String(), true
	case bool:
		return fmt.Sprint(x), true
	case []any: // ["uuid", "…"]
		if len(x) == 2 && (x[0] == "uuid" || x[0] == "named-uuid") {
			id, ok := x[1].(string)
			return id, ok
		}
	}
	return "", false
}

// row is a row of a table: those of its columns that are watched.
type row map[string]value

// text is a plain value; empty when there is none.
func (r row) text(column string) string {
	if a := r[column].atoms; len(a) > 0 {
		return a[0]
	}
	return ""
}

// update is what a monitor tells: by table and row's UUID, the row as it is now, or nil when it was deleted (RFC 7047
// section 4.1.6).
type update map[string]map[string]struct {
	New *row `json:"new"`
}

// deletes reports whether a row of the table goes.
func (u update) deletes(table string) bool {
	for _, r := range u[table] {
		if r.New == nil {
			return true
		}
	}
	return false
}

// database is a copy of the watched part.
type database map[string]map[string]row

func (db database) apply(u update) {
	for table, rows := range u {
		if db[table] == nil {
			db[table] = map[string]row{}
		}
		for id, r := range rows {
			if r.New == nil {
				delete(db[table], id)
			} else {
				// What is left out is as the server's default has it.
				db[table][id] = maps.Clone(*r.New)
			}
		}
	}
}

// monitor asks for all rows of the watched tables, and to be told of each change.
func monitor() request {
	tables := map[string]any{}
	for table, cols := range columns {
		tables[table] = []any{map[string]any{"columns": cols}}
	}
	return request{Method: "monitor", Params: []any{"Open_vSwitch", nil, tables}, ID: "monitor"}
}

// parseUpdate takes the params of an "update" notification apart.
func parseUpdate(params json.RawMessage) (update, error) {
	var p []json.RawMessage
	if err := json.Unmarshal(params, &p); err != nil || len(p) != 2 {
		return nil, errors.New("an update that is none")
	}
	return parseTables(p[1])
}

func parseTables(b json.RawMessage) (update, error) {
	var u update
	if err := json.Unmarshal(b, &u); err != nil {
		return nil, fmt.Errorf("read the tables of an update: %w", err)
	}
	return u, nil
}
