package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestOptionsFitTheirCalls: an option compiles only where it means something.
func TestOptionsFitTheirCalls(t *testing.T) {
	takers := map[string]reflect.Type{
		"put": reflect.TypeFor[PutOption](), "rollback": reflect.TypeFor[RollbackOption](),
		"delete": reflect.TypeFor[DeleteOption](), "schema": reflect.TypeFor[SchemaOption](),
	}
	for _, test := range []struct {
		name, takes string
		constructor any
	}{
		{"Author", "put rollback schema", Author}, {"Expect", "delete put rollback", Expect}, {"Keep", "put", Keep},
	} {
		var takes []string
		for name, taker := range takers {
			if reflect.TypeOf(test.constructor).Out(0).AssignableTo(taker) {
				takes = append(takes, name)
			}
		}
		slices.Sort(takes)
		if got := strings.Join(takes, " "); got != test.takes {
			t.Errorf("%s is for %s, want %s", test.name, got, test.takes)
		}
	}
}
