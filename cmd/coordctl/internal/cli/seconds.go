package cli

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// Seconds is a flag holding a duration; a bare number is a number of seconds, as in etcdctl.
type Seconds time.Duration

var _ pflag.Value = (*Seconds)(nil)

// Set parses "3", "1500ms", "1m30s".
func (s *Seconds) Set(text string) error {
	d, err := parseSeconds(text)
	*s = Seconds(d)
	return err
}

func (s *Seconds) String() string { return time.Duration(*s).String() }

// Type is what the help calls the value.
func (s *Seconds) Type() string { return "duration" }

func parseSeconds(text string) (time.Duration, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n > int64(math.MaxInt64/time.Second) || n < 0 {
			return 0, fmt.Errorf("%s seconds is out of range", text)
		}
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a number of seconds nor a duration like 1500ms or 1m", text)
	}
	if d < 0 {
		return 0, fmt.Errorf("%s is negative", text)
	}
	return d, nil
}
