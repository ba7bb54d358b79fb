package registry

import (
	"reflect"
	"testing"
)

// TestOptionsOfAList: what chooses instances is for lists and watches, what drives a watch is for watches alone.
func TestOptionsOfAList(t *testing.T) {
	list := reflect.TypeFor[ListOption]()
	for _, constructor := range []any{Tag, Zone, Passing, Endpoints} {
		if got := reflect.TypeOf(constructor).Out(0); !got.AssignableTo(list) {
			t.Errorf("%v is not for a list", got)
		}
	}
	if got := reflect.TypeOf(Refresh).Out(0); got.AssignableTo(list) {
		t.Errorf("%v is for a list", got)
	}
}
