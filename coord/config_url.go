package coord

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A urlRule is what one list of URLs may contain.
type urlRule struct {
	schemes []string
	// bind asks for an address the machine can listen on: an IP address or localhost, and port 0 for any free one.
	bind bool
	// wildcard admits an address that stands for every one of the machine's.
	wildcard bool
}

var (
	listenRule          = urlRule{schemes: []string{"http"}, bind: true, wildcard: true}
	advertisePeerRule   = urlRule{schemes: []string{"http"}}
	advertiseClientRule = urlRule{schemes: []string{"http", "https"}, wildcard: true}
)

// checkAll applies the rule to each URL given by a flag, and refuses one that is given twice.
func (r urlRule) checkAll(flag string, urls []string) error {
	for i, raw := range urls {
		if err := r.check(raw); err != nil {
			return fmt.Errorf("%s %q: %w", flag, raw, err)
		}
		if slices.Contains(urls[:i], raw) {
			return fmt.Errorf("%s: %s is given twice", flag, raw)
		}
	}
	return nil
}

func (r urlRule) check(raw string) error {
	if raw == "" {
		return fmt.Errorf("empty URL, must be %s://HOST:PORT", r.schemes[0])
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("not a URL: %w", cause(err))
	}
	if !slices.Contains(r.schemes, u.Scheme) {
		return fmt.Errorf("scheme must be %s", strings.Join(r.schemes, " or "))
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil || port == "" {
		return fmt.Errorf(`address must have the form "host:port"`)
	}
	if u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("URL must not contain a path, a query or a user, only %s://HOST:PORT", u.Scheme)
	}
	if err := r.checkPort(port); err != nil {
		return err
	}
	return r.checkHost(host)
}

func (r urlRule) checkPort(port string) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || (n == 0 && !r.bind) {
		return fmt.Errorf("port %s is not between 1 and 65535", port)
	}
	return nil
}

func (r urlRule) checkHost(host string) error {
	if host == "" {
		return fmt.Errorf("host is empty, must be an address such as 127.0.0.1")
	}
	if r.bind && host != "localhost" && net.ParseIP(host) == nil {
		return fmt.Errorf("host must be an IP address or localhost to listen on, not the name %s", host)
	}
	if !r.wildcard && isWildcard(host) {
		return fmt.Errorf("%s stands for every address of this machine, other members need one to connect to", host)
	}
	return nil
}

// cause is the error inside a *url.Error, whose own text repeats the URL.
func cause(err error) error {
	if e, ok := err.(*url.Error); ok {
		return e.Err
	}
	return err
}

func isWildcard(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsUnspecified()
}

func anyWildcard(urls []string) bool {
	return slices.ContainsFunc(urls, func(raw string) bool {
		u, err := url.Parse(raw)
		return err == nil && isWildcard(u.Hostname())
	})
}

// canonicalURL is the form in which URLs are compared: localhost is 127.0.0.1. Other names are not resolved, as what
// they resolve to may change.
func canonicalURL(raw string) string {
	return strings.ToLower(strings.Replace(raw, "://localhost:", "://127.0.0.1:", 1))
}

// firstShared returns a URL of b that is in a as well, or "". A URL that asks for any free port is shared with none.
func firstShared(a, b []string) string {
	for _, u := range b {
		same := func(other string) bool { return canonicalURL(other) == canonicalURL(u) }
		if !strings.HasSuffix(u, ":0") && slices.ContainsFunc(a, same) {
			return u
		}
	}
	return ""
}
