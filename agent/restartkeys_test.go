package agent

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
)

// A reload refuses just those keys of which the manual says that a restart takes them over.
func TestAReloadRefusesTheKeysThatNeedARestart(t *testing.T) {
	checked := 0
	var walk func(v reflect.Value, path string, restart bool, changed *config.Config)
	walk = func(v reflect.Value, path string, restart bool, changed *config.Config) {
		for i := range v.NumField() {
			f := v.Type().Field(i)
			key := f.Tag.Get("yaml")
			if key == "-" {
				continue
			}
			at := strings.TrimPrefix(path+"."+key, ".")
			needs := restart || f.Tag.Get("restart") == "true"
			field := v.Field(i)
			if field.Kind() == reflect.Struct {
				walk(field, at, needs, changed)
				continue
			}
			other, ok := another(field)
			if !ok {
				continue // lists and mappings of what a reload takes over
			}
			was := reflect.ValueOf(field.Interface())
			field.Set(other)
			keys := needRestart(config.Default(), changed)
			field.Set(was)
			named := slices.ContainsFunc(keys, func(k string) bool { return k == at || strings.HasPrefix(at, k+".") })
			if named != needs {
				t.Errorf("%s: a reload refuses %v; the manual says that it takes a restart: %t", at, keys, needs)
			}
			checked++
		}
	}
	c := config.Default()
	walk(reflect.ValueOf(c).Elem(), "", false, c)
	if checked < 80 {
		t.Errorf("%d keys only were looked at", checked)
	}
}

// another is a value other than that of a field.
func another(field reflect.Value) (reflect.Value, bool) {
	switch v := field.Interface().(type) {
	case string:
		return reflect.ValueOf(v + "x"), true
	case bool:
		return reflect.ValueOf(!v), true
	case uint64:
		return reflect.ValueOf(v + 1), true
	case time.Duration:
		return reflect.ValueOf(v + 1), true
	case []string:
		return reflect.ValueOf(append(slices.Clone(v), "x")), true
	}
	return reflect.Value{}, false
}
