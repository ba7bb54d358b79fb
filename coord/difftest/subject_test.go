package difftest

import "testing"

// startSubject starts the server under test.
func startSubject(t testing.TB) (addr string, stop func()) { return startEtcd(t) }
