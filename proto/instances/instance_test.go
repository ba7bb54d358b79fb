package instances

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/coord-dev/coord/proto/layout"
)

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Instance)
		want   error
	}{
		"no service":       {func(in *Instance) { in.Service = "" }, ErrBadName},
		"reserved service": {func(in *Instance) { in.Service = "_coord/x" }, ErrBadName},
		"long service": {func(in *Instance) {
			in.Service = strings.Repeat("x", layout.MaxEscaped+1)
		}, ErrBadName},
		"control character":   {func(in *Instance) { in.ID = "a\n" }, ErrBadName},
		"no UTF-8":            {func(in *Instance) { in.Service = "\xff" }, ErrBadName},
		"no address":          {func(in *Instance) { in.Addr = "" }, ErrNoAddress},
		"no port":             {func(in *Instance) { in.Addr = "10.0.0.1" }, ErrNoAddress},
		"port 0":              {func(in *Instance) { in.Addr = "10.0.0.1:0" }, ErrNoAddress},
		"no host":             {func(in *Instance) { in.Addr = ":80" }, ErrNoAddress},
		"negative weight":     {func(in *Instance) { in.Weight = -1 }, ErrBadWeight},
		"weight too large":    {func(in *Instance) { in.Weight = MaxWeight + 1 }, ErrBadWeight},
		"unknown state":       {func(in *Instance) { in.State = 5 }, ErrBadState},
		"http without target": {func(in *Instance) { in.Probe = &Probe{Kind: ProbeHTTP} }, ErrBadProbe},
		"http of host:port": {func(in *Instance) {
			in.Probe = &Probe{Kind: ProbeHTTP, Target: "10.0.0.1:80"}
		}, ErrBadProbe},
		"tcp of a URL": {func(in *Instance) {
			in.Probe = &Probe{Kind: ProbeTCP, Target: "http://x/"}
		}, ErrBadProbe},
		"unknown probe": {func(in *Instance) { in.Probe = &Probe{} }, ErrBadProbe},
		"probe too often": {func(in *Instance) {
			in.Probe = &Probe{Kind: ProbeTCP, Interval: time.Millisecond}
		}, ErrBadProbe},
		"probe without end": {func(in *Instance) {
			in.Probe = &Probe{Kind: ProbeTCP, Timeout: time.Hour}
		}, ErrBadProbe},
		"negative failures": {func(in *Instance) { in.Probe = &Probe{Kind: ProbeTCP, Failures: -1} }, ErrBadProbe},
		"metadata no UTF-8": {func(in *Instance) { in.Metadata = map[string]string{"k": "\xff"} }, ErrBadName},
		"too large":         {func(in *Instance) { in.Load = make([]byte, MaxRecord) }, ErrTooLarge},
	} {
		in := pay("a")
		c.change(&in)
		in.EnsureDefaults()
		if err := in.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestEncodeDecode(t *testing.T) {
	in := Instance{
		Service: "a/b %", ID: "ü/1", Addr: "[::1]:80", Zone: "eu", Weight: 3, Tags: []string{"v2", "blue"},
		Metadata: map[string]string{"k": "v"}, Version: "1.2", State: Draining, Load: []byte{0, 1}, Mirror: true,
		Probe: &Probe{
			Kind: ProbeGRPC, Target: "h:1/svc", Interval: time.Second, Timeout: time.Second, Failures: 1, Successes: 4,
		},
		Registered: time.UnixMilli(1000), Heartbeat: time.UnixMilli(2000),
	}
	got, err := Decode(in.Encode())
	if err != nil || !reflect.DeepEqual(*got, in) {
		t.Errorf("%+v became %+v, %v", in, got, err)
	}
	key := layout.InstanceKey(in.Service, in.ID)
	r, ok := NewSet(Limits{}, "").parse(key)
	if want := (record{Name{Service: in.Service, ID: in.ID}, layout.Instance}); r != want || !ok {
		t.Errorf("the key %s says %+v %v", key, r, ok)
	}
}

func TestEndpoints(t *testing.T) {
	in := Instance{
		Service: "pay", ID: "a", Addr: "10.0.0.1:80", Zone: "eu", Weight: 3, Tags: []string{"v2"},
		Metadata: map[string]string{"k": "v"}, Version: "1",
	}
	const want = `{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"id":"a","zone":"eu","weight":3,"tags":["v2"],"metadata":{"k":"v"},"version":"1"}}`
	if got := string(in.EncodeEndpoint()); got != want {
		t.Errorf("encoded as %s", got)
	}
	for value, want := range map[string]Instance{
		want: {
			Zone: "eu", Weight: 3, Tags: []string{"v2"}, Metadata: map[string]string{"k": "v"}, Version: "1",
			endpointOf: "a",
		},
		`{"Op":0,"Addr":"10.0.0.1:80"}`:                                        {Weight: 1},
		`{"Addr":"10.0.0.1:80","Metadata":null}`:                               {Weight: 1},
		`{"Op":0,"Addr":"10.0.0.1:80","Metadata":"why"}`:                       {Weight: 1, Metadata: map[string]string{"etcd": "why"}},
		`{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"x":1}}`:                     {Weight: 1, Metadata: map[string]string{"etcd": `{"x":1}`}},
		`{"Op":0,"Addr":"10.0.0.1:80","Metadata":{"weight":99999,"zone":"z"}}`: {Weight: 1, Zone: "z"},
	} {
		want.Service, want.ID, want.Addr, want.State, want.Foreign = "pay", "r", "10.0.0.1:80", Passing, true
		got, err := decodeEndpoint("pay", "r", []byte(value))
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("%s is %+v, %v", value, got, err)
		}
	}
	if _, err := decodeEndpoint("pay", "r", []byte(`{"Op":0}`)); !errors.Is(err, ErrNoAddress) {
		t.Errorf("an endpoint without address: %v", err)
	}
}

// What we did not write must not bring anything down.
func FuzzDecode(f *testing.F) {
	in := pay("a")
	in.EnsureDefaults()
	in.Probe = &Probe{Kind: ProbeTCP}
	f.Add("_coord/services/pay/instances/a", in.Encode())
	f.Add("pay/x", in.EncodeEndpoint())
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		s := NewSet(Limits{}, "pay")
		if r, ok := s.parse(key); ok {
			if in := decode(r, value); in != nil && !r.Foreign {
				if err := in.check(); err != nil {
					t.Errorf("taken, and %v", err)
				}
			}
		}
	})
}
