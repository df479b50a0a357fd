package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A field is one key of a section, as the tags of the section's struct say.
type field struct {
	name    string
	alias   string // a second name, in the environment only
	typ     reflect.Type
	index   []int
	path    bool // a file name: ~ and relative names are resolved
	port    bool // a TCP port, which 0 is not
	envOnly bool // flags and environment have it, files do not
}

// fields lists the keys of the section t, those of squashed structs included.
func fields(t reflect.Type) []field {
	var list []field
	for f := range t.Fields() {
		tag := f.Tag.Get("mapstructure")
		switch {
		case !f.IsExported() || tag == "-":
		case tag == ",squash":
			for _, sub := range fields(f.Type) {
				sub.index = append(slices.Clone(f.Index), sub.index...)
				list = append(list, sub)
			}
		default:
			list = append(list, field{
				name: tag, alias: f.Tag.Get("alias"), typ: f.Type, index: f.Index,
				path: f.Tag.Get("kind") == "path", port: f.Tag.Get("kind") == "port", envOnly: f.Tag.Get("source") == "env",
			})
		}
	}
	return list
}

// A leaf is a key that is no section, with its full path such as "ssh.listen".
// A list of sections is a leaf too.
type leaf struct {
	field
	key   string
	index []int // from the struct at the top
}

// leaves lists every leaf of t, in the order of the structs.
func leaves(t reflect.Type, path string, index []int) []leaf {
	var list []leaf
	for _, f := range fields(t) {
		key, at := join(path, f.name), append(slices.Clone(index), f.index...)
		if f.typ.Kind() == reflect.Struct {
			list = append(list, leaves(f.typ, key, at)...)
		} else {
			list = append(list, leaf{field: f, key: key, index: at})
		}
	}
	return list
}

// ofSections says that the leaf is a list of sections, which only files have.
func (l leaf) ofSections() bool {
	return l.typ.Kind() == reflect.Slice && l.typ.Elem().Kind() == reflect.Struct
}

// fileKeys lists every key that may stand in a file, for suggestions.
func fileKeys(t reflect.Type) []string {
	var list []string
	for _, l := range leaves(t, "", nil) {
		switch {
		case l.envOnly:
		case l.ofSections():
			for _, sub := range fileKeys(l.typ.Elem()) {
				list = append(list, join(l.key+"[]", sub))
			}
		default:
			list = append(list, l.key)
		}
	}
	return list
}

// A checker reads what a file says against the schema, and collects the faults.
type checker struct {
	all    []string // every key of the file
	dir    string   // where relative file names start
	faults []Fault  // without their place
}

func (c *checker) fault(key, problem string) {
	c.faults = append(c.faults, Fault{Key: key, Problem: problem})
}

// section returns what raw says for the section t at path, in the types of t
// and without whatever is wrong.
func (c *checker) section(t reflect.Type, path string, raw map[string]any) map[string]any {
	known := map[string]field{}
	var siblings []string
	for _, f := range fields(t) {
		known[f.name] = f
		if !f.envOnly {
			siblings = append(siblings, f.name)
		}
	}
	good := map[string]any{}
	for _, name := range slices.SortedFunc(maps.Keys(raw), cmp.Compare) {
		f, ok := known[name]
		switch {
		case !ok:
			c.faults = append(c.faults, unknownKey(name, path, siblings, c.all))
		case f.envOnly:
			c.fault(join(path, name), f.notInFile())
		case raw[name] == nil: // "users:" with nothing after it says nothing
		default:
			if v, ok := c.value(f, f.typ, join(path, name), raw[name]); ok {
				good[name] = v
			}
		}
	}
	return good
}

// notInFile says where a key belongs that only flags and variables have.
func (f field) notInFile() string {
	switch f.name {
	case "root", "authorized_keys":
		return "this is a flag, not a key of the file; here each entry of users: has its own root and keys"
	}
	return "this is a flag, not a key of the file; here it belongs to an entry of hosts:, or to ~/.ssh/config"
}

// value returns what raw says for a key of type t, in that type.
func (c *checker) value(f field, t reflect.Type, key string, raw any) (any, bool) {
	switch {
	case t.Kind() == reflect.Struct:
		m, ok := raw.(map[string]any)
		if !ok {
			c.wrong(key, t, raw)
			return nil, false
		}
		return c.section(t, key, m), true
	case t.Kind() == reflect.Slice:
		items, ok := raw.([]any)
		if !ok {
			c.wrong(key, t, raw)
			return nil, false
		}
		list := []any{} // an empty list is not the same as none
		for i, item := range items {
			v, ok := c.value(f, t.Elem(), fmt.Sprintf("%s[%d]", key, i), item)
			if !ok { // keep the places of the others, their faults are named by them
				v = reflect.Zero(t.Elem()).Interface()
			}
			list = append(list, v)
		}
		return list, true
	}
	v, err := parseRaw(t, raw)
	if n, ok := v.(int); err == nil && ok && f.port {
		err = checkPort(n)
	}
	if err != nil {
		c.fault(key, err.Error())
		return nil, false
	}
	return f.resolve(c.dir, v), true
}

// wrong records that raw is not what the list or section at key takes.
func (c *checker) wrong(key string, t reflect.Type, raw any) {
	if m, ok := raw.(map[any]any); ok {
		for name := range m {
			if _, ok := name.(string); !ok {
				c.fault(key, fmt.Sprintf("the key %v is not text", name))
				return
			}
		}
	}
	kind, example := kindOf(t)
	if s, ok := raw.(string); ok && t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String {
		example = fmt.Sprintf("[%q]", s)
	}
	c.fault(key, fmt.Sprintf("%s found, %s is wanted; write it like %s", describe(raw), kind, example))
}

// flagName is the flag that sets a key: "ssh.listen" is --ssh-listen.
func flagName(key string) string {
	return "--" + strings.NewReplacer(".", "-", "_", "-").Replace(key)
}

// envNames are the variables that set the leaf, the usual one first.
func (l leaf) envNames(prefix string) []string {
	names := []string{envName(prefix, l.key)}
	if l.alias != "" {
		names = append(names, envName(prefix, l.alias))
	}
	return names
}

func envName(prefix, key string) string {
	return prefix + "_" + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}
