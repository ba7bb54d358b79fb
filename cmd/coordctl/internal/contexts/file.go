package contexts

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.etcd.io/etcd/pkg/v3/cobrautl"
	"go.yaml.in/yaml/v3"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
)

// A context is a cluster by name: global flags for the connection to it. All stand in one YAML file:
//
//	current: prod
//	contexts:
//	  prod:
//	    endpoints: 10.0.0.1:2379,10.0.0.2:2379
//	    cacert: /etc/coord/ca.pem

// settings are values of global flags by name. Endpoints are separated by commas.
type settings map[string]string

// contextFile is what stands in the file of contexts.
type contextFile struct {
	path     string
	current  string // the name of the current context; "" if there is none
	contexts map[string]settings
}

var errNoContext = errors.New("no such context")

// contextPath is where the file of contexts is: what COORDCTL_CONFIG says, or the place that the system has for such
// files. It is "" for who has no such place, like a service without a home.
func contextPath() string {
	if path := os.Getenv("COORDCTL_CONFIG"); path != "" {
		return path
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "coord", "contexts.yaml")
}

// loadContexts reads the file; there are no contexts without one. An error names the file and, as far as it is about
// one, the line.
func loadContexts() (*contextFile, error) {
	path := contextPath()
	file := &contextFile{path: path, contexts: map[string]settings{}}
	if path == "" {
		return file, nil
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if len(root.Content) == 0 {
		return file, nil
	}
	if err := file.parse(root.Content[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return file, nil
}

// parse reads the mapping that the file is.
func (f *contextFile) parse(root *yaml.Node) error {
	return eachPair(root, "the file", func(key, value *yaml.Node) error {
		switch key.Value {
		case "current":
			return scalar(value, &f.current)
		case "contexts":
			return eachPair(value, "contexts", func(name, value *yaml.Node) error {
				if err := checkContextName(name.Value); err != nil {
					return atLine(name, "%w", err)
				}
				s, err := parseSettings(value, name.Value)
				f.contexts[name.Value] = s
				return err
			})
		}
		return atLine(key, "unknown key %q: there are current and contexts", key.Value)
	})
}

// parseSettings reads a context, and sees whether its flags take the values.
func parseSettings(node *yaml.Node, name string) (settings, error) {
	s, known := settings{}, pflag.NewFlagSet("", pflag.ContinueOnError)
	cli.AddGlobalFlags(known)
	err := eachPair(node, "context "+name, func(key, value *yaml.Node) error {
		flag := known.Lookup(key.Value)
		if flag == nil || !isSetting(flag) {
			return atLine(key, "unknown setting %q of context %s: there are %s", key.Value, name,
				strings.Join(settingNames(known), ", "))
		}
		var text string
		if err := scalar(value, &text); err != nil {
			return err
		}
		if err := known.Set(key.Value, text); err != nil {
			return atLine(value, "context %s: %w", name, err)
		}
		s[key.Value] = text
		return nil
	})
	return s, err
}

// isSetting tells whether a global flag is about the connection to a cluster.
func isSetting(flag *pflag.Flag) bool {
	return !slices.Contains([]string{"context", "write-out", "hex", "debug"}, flag.Name)
}

func settingNames(flags *pflag.FlagSet) []string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if isSetting(f) {
			names = append(names, f.Name)
		}
	})
	return names
}

// eachPair calls fn for the pairs of a mapping; an empty value is an empty mapping.
func eachPair(node *yaml.Node, what string, fn func(key, value *yaml.Node) error) error {
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		return nil
	}
	if node.Kind != yaml.MappingNode {
		return atLine(node, "%s must be a mapping of names to values", what)
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if seen[key.Value] {
			return atLine(key, "%q is there twice", key.Value)
		}
		seen[key.Value] = true
		if err := fn(key, node.Content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// scalar reads a value, or a list of values as one with commas.
func scalar(node *yaml.Node, text *string) error {
	switch node.Kind {
	case yaml.ScalarNode:
		*text = node.Value
		return nil
	case yaml.SequenceNode:
		items := make([]string, len(node.Content))
		for i, item := range node.Content {
			if item.Kind != yaml.ScalarNode {
				return atLine(item, "not a value")
			}
			items[i] = item.Value
		}
		*text = strings.Join(items, ",")
		return nil
	}
	return atLine(node, "not a value")
}

func atLine(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{node.Line}, args...)...)
}

var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

func checkContextName(name string) error {
	if !contextName.MatchString(name) {
		return fmt.Errorf("bad name %q of a context: it has letters, digits, and . _ - behind the first one", name)
	}
	return nil
}

// get returns a context; the error names those that there are.
func (f *contextFile) get(name string) (settings, error) {
	s, ok := f.contexts[name]
	if !ok {
		there := strings.Join(slices.Sorted(maps.Keys(f.contexts)), ", ")
		return nil, cli.BadArgs("%w: %q in %s, which has %s", errNoContext, name, f.path, cmp.Or(there, "none"))
	}
	return s, nil
}

// save replaces the file, whole or not at all; only its owner can read it.
func (f *contextFile) save() error {
	if f.path == "" {
		return errors.New("there is no home to keep contexts in: name a file in COORDCTL_CONFIG")
	}
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(struct {
		Current  string              `yaml:"current,omitempty"`
		Contexts map[string]settings `yaml:"contexts"`
	}{f.current, f.contexts}); err != nil {
		return err
	}
	path := f.path
	if target, err := filepath.EvalSymlinks(path); err == nil { // a link stays one
		path = target
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return replaceFile(path, text.Bytes())
}

// replaceFile writes a file beside path, with mode 0600, and gives it the name when it is on the disk.
func replaceFile(path string, content []byte) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = temp.Close()
			_ = os.Remove(temp.Name())
		}
	}()
	if _, err = temp.Write(content); err != nil {
		return err
	}
	if err = temp.Sync(); err != nil {
		return err
	}
	if err = temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

// applyContext gives the flags that have no value yet those of the context that --context names, or else of the current
// one.
func applyContext(flags *pflag.FlagSet) error {
	file, err := loadContexts()
	if err != nil {
		return cli.ExitWith(cobrautl.ExitBadArgs, err)
	}
	name, err := flags.GetString("context")
	if err != nil {
		return err
	}
	if name = cmp.Or(name, file.current); name == "" {
		return nil
	}
	s, err := file.get(name)
	if err != nil {
		return err
	}
	for flag, value := range s {
		if !flags.Changed(flag) {
			if err := flags.Set(flag, value); err != nil {
				return cli.BadArgs("%s: context %s: %w", file.path, name, err)
			}
		}
	}
	return nil
}
