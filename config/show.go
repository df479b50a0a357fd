package config

import (
	"reflect"
	"time"
)

// A Setting is one key with its value, and where that comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`            // sizes and durations as in a file, "80MiB" and "7d"
	Origin string `json:"origin"`           // flag, env, file or default
	Source string `json:"source,omitempty"` // the flag, the variable, or file and line
}

// ShowClient says of every key of LoadClient its value and where that comes
// from, in the order of Client. Its error is that of LoadClient.
func ShowClient(path string, flags ClientFlags) ([]Setting, error) {
	c, l, err := loadClient(path, flags)
	if err != nil {
		return nil, err
	}
	return l.settings(reflect.ValueOf(c)), nil
}

func (l *loading) settings(top reflect.Value) []Setting {
	var list []Setting
	for _, leaf := range l.leaves {
		from := l.origins[leaf.key]
		s := Setting{Key: leaf.key, Value: plain(top.FieldByIndex(leaf.index)), Origin: from.kind, Source: from.source}
		if from.kind == "file" {
			s.Source = Fault{File: l.doc.path, Line: l.doc.line(leaf.key)}.String()
		}
		list = append(list, s)
	}
	return list
}

// plain returns v as it would stand in a file, made of maps, lists, text and
// numbers alone. Keys of a list's sections that say nothing are left out.
func plain(v reflect.Value) any {
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		return FormatDuration(time.Duration(v.Int()))
	case v.Kind() == reflect.Int64:
		return FormatSize(v.Int())
	case v.Kind() == reflect.Slice:
		list := make([]any, v.Len())
		for i := range list {
			list[i] = plain(v.Index(i))
		}
		return list
	case v.Kind() == reflect.Struct:
		m := map[string]any{}
		for _, f := range fields(v.Type()) {
			if value := v.FieldByIndex(f.index); !value.IsZero() {
				m[f.name] = plain(value)
			}
		}
		return m
	}
	return v.Interface()
}
