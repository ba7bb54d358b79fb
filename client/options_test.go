package client

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// TestOptionsFitTheirRecipes: an option compiles only where it means something. What a constructor returns decides
// that, and nothing else, for all options are of one type inside.
func TestOptionsFitTheirRecipes(t *testing.T) {
	takers := map[string]reflect.Type{
		"session": reflect.TypeFor[SessionOption](), "lock": reflect.TypeFor[LockOption](),
		"locks":  reflect.TypeFor[LocksOption](),
		"rwlock": reflect.TypeFor[RWLockOption](), "semaphore": reflect.TypeFor[SemaphoreOption](),
		"barrier": reflect.TypeFor[BarrierOption](), "campaign": reflect.TypeFor[CampaignOption](),
		"run": reflect.TypeFor[RunOption](), "gate": reflect.TypeFor[GateOption](),
	}
	for _, test := range []struct {
		name, takes string
		constructor any
	}{
		{"WithTTL", "session", WithTTL},
		{"WithIdentity", "session", WithIdentity},
		{"OnState", "session", OnState},
		{"WithLabel", "barrier lock locks rwlock semaphore session", WithLabel},
		{"WithOwner", "barrier lock locks rwlock semaphore", WithOwner},
		{"WithMaxWait", "barrier campaign lock locks run rwlock semaphore", WithMaxWait},
		{"OnQueued", "barrier campaign lock locks run rwlock semaphore", OnQueued},
		{"OnAcquire", "barrier campaign lock locks run rwlock semaphore", OnAcquire},
		{"OnLost", "barrier campaign lock locks run rwlock semaphore", OnLost},
		{"WithDelay", "campaign lock locks run rwlock semaphore", WithDelay},
		{"WithReentry", "lock rwlock", WithReentry},
		{"OnAsked", "campaign lock locks run", OnAsked},
		{"WithPriority", "campaign run", WithPriority},
		{"WithOneTerm", "run", WithOneTerm},
		{"WithReason", "gate", WithReason},
		{"WithSessionBound", "gate", WithSessionBound},
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
