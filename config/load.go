package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// An origin is one of the four places that a setting may come from.
type origin struct {
	kind   string // flag, env, file or default
	source string // the flag or the variable
}

// A loading merges the four places of one configuration.
type loading struct {
	prefix   string // of the environment variables
	leaves   []leaf
	doc      document
	viper    *viper.Viper
	origins  map[string]origin // by the leaf's key
	faults   Faults
	warnings []string
}

// load fills into, a pointer to a struct that holds the defaults, from the file
// at path, the variables that begin with prefix, and flags.
//
// Every place is read against the same schema, the struct itself, before viper
// sees it: viper converts what it should refuse, and cannot say where a value
// came from. Viper then decides which place wins.
func load(into any, prefix, path string, flags map[string][]string) *loading {
	top := reflect.ValueOf(into).Elem()
	l := &loading{
		prefix:  prefix,
		leaves:  leaves(top.Type(), "", nil),
		viper:   viper.New(),
		origins: map[string]origin{},
	}
	for _, leaf := range l.leaves {
		l.origins[leaf.key] = origin{kind: "default"}
		l.viper.SetDefault(leaf.key, top.FieldByIndex(leaf.index).Interface())
	}
	l.readFile(top.Type(), path)
	l.readEnvironment()
	l.readFlags(flags)
	strict := func(c *mapstructure.DecoderConfig) {
		c.WeaklyTypedInput = false
		c.ZeroFields = true // a short list must not keep the end of the default
		c.DecodeHook = nil  // everything has its type by now
	}
	if err := l.viper.UnmarshalExact(into, strict); err != nil {
		l.faults = append(l.faults, Fault{File: path, Problem: err.Error()})
	}
	return l
}

func (l *loading) readFile(t reflect.Type, path string) {
	doc, fault := readDocument(path)
	if fault != nil {
		switch {
		case errors.Is(fault.cause, fs.ErrNotExist):
			fault.Problem += fmt.Sprintf("; name one that is there with --config or %s_CONFIG, or have one written by '%s'",
				l.prefix, initCommand(l.prefix))
		case errors.Is(fault.cause, fs.ErrPermission):
			fault.Problem += "; the account that runs this must be able to read it"
		}
		l.faults = append(l.faults, *fault)
		return
	}
	l.doc = doc
	c := checker{all: fileKeys(t), dir: filepath.Dir(path)}
	good := c.section(t, "", doc.raw)
	for _, f := range c.faults {
		f.File, f.Line = path, doc.line(f.Key)
		l.faults = append(l.faults, f)
	}
	for _, leaf := range l.leaves {
		if has(good, strings.Split(leaf.key, ".")) {
			l.origins[leaf.key] = origin{kind: "file"}
		}
	}
	l.merge(good)
}

// initCommand writes a file for the program whose variables begin with prefix.
func initCommand(prefix string) string {
	if prefix == "TRANSFERD" {
		return "transferd init"
	}
	return "transfer config init"
}

func has(m map[string]any, path []string) bool {
	v, ok := m[path[0]]
	if len(path) == 1 || !ok {
		return ok
	}
	sub, ok := v.(map[string]any)
	return ok && has(sub, path[1:])
}

// readEnvironment takes what variables say. An empty one says nothing. Unknown
// ones may belong to somebody else and are no fault, but a misspelling is
// worth a warning.
func (l *loading) readEnvironment() {
	var known, keys []string
	for _, leaf := range l.leaves {
		for _, name := range slices.Backward(leaf.envNames(l.prefix)) { // so that the usual one wins
			known = append(known, name)
			keys = append(keys, strings.ToLower(name[len(l.prefix)+1:]))
			text := os.Getenv(name)
			switch {
			case text == "":
			case leaf.ofSections():
				l.warnings = append(l.warnings, fmt.Sprintf("%s is ignored: %s can only be set in a file", name, leaf.key))
			default:
				v, err := leaf.parse(text)
				l.take(leaf, origin{"env", name}, v, err)
			}
		}
	}
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, l.prefix+"_") || slices.Contains(known, name) {
			continue
		}
		// Not the prefix, with which every name looks like every other.
		if guess := nearest(name[len(l.prefix)+1:], keys); guess != "" {
			l.warnings = append(l.warnings, fmt.Sprintf("%s is no setting; did you mean %s?", name, envName(l.prefix, guess)))
		}
	}
}

func (l *loading) readFlags(flags map[string][]string) {
	for _, leaf := range l.leaves {
		given, ok := flags[leaf.key]
		if !ok {
			continue
		}
		from := origin{"flag", flagName(leaf.key)}
		if leaf.typ.Kind() == reflect.Slice {
			l.take(leaf, from, given, nil)
		} else if len(given) > 0 {
			v, err := leaf.parse(given[len(given)-1])
			l.take(leaf, from, v, err)
		}
	}
}

// take records what a flag or a variable says. Environment and file are merged
// in this order into one layer of viper, of which the later wins; flags have
// viper's own.
func (l *loading) take(leaf leaf, from origin, v any, err error) {
	l.origins[leaf.key] = from
	if err != nil {
		l.faults = append(l.faults, Fault{Source: from.source, Key: leaf.key, Problem: err.Error()})
		return
	}
	v = leaf.resolve("", v)
	if from.kind == "flag" {
		l.viper.Set(leaf.key, v)
		return
	}
	m := map[string]any{}
	at := m
	path := strings.Split(leaf.key, ".")
	for _, name := range path[:len(path)-1] {
		sub := map[string]any{}
		at[name], at = sub, sub
	}
	at[path[len(path)-1]] = v
	l.merge(m)
}

func (l *loading) merge(m map[string]any) {
	if err := l.viper.MergeConfigMap(m); err != nil {
		l.faults = append(l.faults, Fault{File: l.doc.path, Problem: err.Error()})
	}
}

// A problem is what validation finds: a key and what is wrong with it.
type problem struct {
	key  string
	text string
}

// finish adds what validation found to what loading found, leaving out what
// only follows from an earlier fault, and returns all faults, nil if none.
func (l *loading) finish(problems []problem) error {
	early := len(l.faults)
	for _, p := range problems {
		follows := slices.ContainsFunc(l.faults[:early], func(f Fault) bool {
			return within(p.key, f.Key) || within(f.Key, p.key) || p.key == f.meant
		})
		if !follows {
			l.faults = append(l.faults, l.locate(p))
		}
	}
	if len(l.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(l.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return l.faults
}

// within says that key is outer or stands in it. Everything stands in "".
func within(key, outer string) bool {
	rest, ok := strings.CutPrefix(key, outer)
	return ok && (outer == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// locate says where the value of the problem's key came from.
func (l *loading) locate(p problem) Fault {
	f := Fault{Key: p.key, Problem: p.text, File: l.doc.path}
	for _, leaf := range l.leaves {
		if p.key != leaf.key && !strings.HasPrefix(p.key, leaf.key+"[") {
			continue
		}
		switch from := l.origins[leaf.key]; from.kind {
		case "flag", "env":
			f.File, f.Source = "", from.source
		case "file":
			f.Line = l.doc.line(p.key)
		}
	}
	return f
}
