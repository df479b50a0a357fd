package config

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// ParseSize reads a number of bytes, or of bytes a second, with its unit:
// 80MiB, 1GB, 1.5GiB, 512B. K, M, G, T and P alone are the binary units, as
// rsync and rclone have them. 0 needs no unit and means no limit. Bits, as in
// Mb, are refused.
func ParseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "BKMGTPEibkmgtpe")
	unit := text[len(digits):]
	n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
	if err != nil || !plainNumber(digits) {
		return 0, fmt.Errorf("%q is no size; %s", s, sizeExample)
	}
	if unit == "" {
		if n == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("%q has no unit; write %sMiB, or %sB if bytes are meant", s, digits, digits)
	}
	factor, ok := sizeUnit(unit)
	if !ok {
		if strings.HasSuffix(unit, "b") {
			return 0, fmt.Errorf("%q: b is bits; sizes and rates are in bytes, such as %sB", s, strings.TrimSuffix(text, "b"))
		}
		return 0, fmt.Errorf("%q: unknown unit %q; %s", s, unit, sizeExample)
	}
	n *= factor
	if n >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is too large; at most 7EiB", s)
	}
	return int64(n), nil
}

const sizeExample = "write it like 80MiB, 1GB, or 0 for no limit"

// plainNumber keeps out what ParseFloat also takes: signs, exponents, hex,
// underscores, Inf and NaN.
func plainNumber(s string) bool {
	return s != "" && strings.Trim(s, "0123456789. ") == ""
}

// sizeUnit knows B, and each prefix as K, KB (1000) and KiB (1024).
func sizeUnit(unit string) (float64, bool) {
	if unit == "B" {
		return 1, true
	}
	power := strings.IndexByte("KMGTPE", strings.ToUpper(unit)[0]) + 1
	if power == 0 {
		return 0, false
	}
	switch unit[1:] {
	case "", "i", "iB", "ib":
		return math.Pow(1024, float64(power)), true
	case "B":
		return math.Pow(1000, float64(power)), true
	}
	return 0, false
}

// FormatSize writes n as ParseSize reads it, in the largest unit that divides it.
func FormatSize(n int64) string {
	if n == 0 {
		return "0"
	}
	for power := 6; power > 0; power-- {
		prefix := "KMGTPE"[power-1 : power]
		if binary := int64(math.Pow(1024, float64(power))); n%binary == 0 {
			return strconv.FormatInt(n/binary, 10) + prefix + "iB"
		}
		if decimal := int64(math.Pow(1000, float64(power))); n%decimal == 0 {
			return strconv.FormatInt(n/decimal, 10) + prefix + "B"
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

const day = 24 * time.Hour

// ParseDuration reads a duration with its unit: 20s, 1h30m, 250ms, 7d, 1d12h.
// d is a day of 24 hours and comes first. 0 needs no unit and means no limit.
// Negative durations are refused.
func ParseDuration(s string) (time.Duration, error) {
	text := strings.TrimSpace(s)
	if strings.HasPrefix(text, "-") {
		return 0, fmt.Errorf("%q is negative; write it like 20s, 10m, 7d, or 0 for no limit", s)
	}
	var days time.Duration
	rest := text
	if before, after, ok := strings.Cut(text, "d"); ok {
		n, err := strconv.ParseFloat(before, 64)
		if err != nil || !plainNumber(before) {
			return 0, fmt.Errorf("%q is no duration; write it like 20s, 10m, 7d", s)
		}
		if n > float64(math.MaxInt64/day) {
			return 0, fmt.Errorf("%q is too long; write 0 for no limit", s)
		}
		if days, rest = time.Duration(n*float64(day)), after; rest == "" {
			return days, nil
		}
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err == nil && d >= 0 && days+d >= days:
		return days + d, nil
	case plainNumber(rest):
		return 0, fmt.Errorf("%q has no unit; write %ss, %sm or the like", s, text, text)
	}
	return 0, fmt.Errorf("%q is no duration; write it like 20s, 10m, 7d", s)
}

// FormatDuration writes d as ParseDuration reads it.
func FormatDuration(d time.Duration) string {
	switch {
	case d == 0:
		return "0"
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// kindOf says in words what a key of type t takes, and gives an example.
func kindOf(t reflect.Type) (kind, example string) {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration", "20s"
	case t.Kind() == reflect.Int64:
		return "a size", "80MiB"
	case t.Kind() == reflect.Int:
		return "a whole number", "256"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct:
		return "a list of sections", "[{name: …}]"
	case t.Kind() == reflect.Slice:
		return "a list", `["…", "…"]`
	case t.Kind() == reflect.Struct:
		return "a section with keys of its own", "{key: value}"
	}
	return "text", `"…"`
}

// parseText reads what a flag or an environment variable says for a key of
// type t. There everything is text, and lists are split at commas.
func parseText(t reflect.Type, s string) (any, error) {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return ParseDuration(s)
	case t.Kind() == reflect.Int64:
		return ParseSize(s)
	case t.Kind() == reflect.Int:
		n, err := strconv.Atoi(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("%q is no whole number; write it like 256", s)
		}
		return n, nil
	case t.Kind() == reflect.Slice:
		list := []string{}
		for item := range strings.SplitSeq(s, ",") {
			if item = strings.TrimSpace(item); item != "" {
				list = append(list, item)
			}
		}
		return list, nil
	}
	return s, nil
}

// parseRaw reads what a file says for a key of type t, which is not a struct or
// a slice. Nothing is converted that has another type in the file: "10" is not
// 10, and true is not 1.
func parseRaw(t reflect.Type, raw any) (any, error) {
	text, isText := raw.(string)
	switch {
	case t == reflect.TypeFor[time.Duration]() || t.Kind() == reflect.Int64:
		if isText {
			return parseText(t, text)
		}
		if n, ok := wholeNumber(raw); ok {
			return parseText(t, strconv.Itoa(n))
		}
		if f, ok := raw.(float64); ok {
			return parseText(t, strconv.FormatFloat(f, 'f', -1, 64))
		}
	case t.Kind() == reflect.Int:
		if n, ok := wholeNumber(raw); ok {
			return n, nil
		}
		if _, err := strconv.Atoi(text); err == nil {
			return nil, fmt.Errorf("%q is text, a whole number is wanted; write it without quotes: %s", text, text)
		}
	case isText:
		return text, nil
	default:
		switch raw.(type) {
		case int, int64, uint64, float64, bool:
			return nil, fmt.Errorf(`%v is %s, text is wanted; write it in quotes: "%v"`, raw, typeOf(raw), raw)
		}
	}
	kind, example := kindOf(t)
	return nil, fmt.Errorf("%s found, %s is wanted; write it like %s", describe(raw), kind, example)
}

// wholeNumber reads the several Go types in which the formats hand out
// integers. JSON has them as float64.
func wholeNumber(raw any) (int, bool) {
	switch n := raw.(type) {
	case int:
		return n, true
	case int64:
		return int(n), int64(int(n)) == n
	case float64:
		return int(n), n == math.Trunc(n) && math.Abs(n) < 1<<53
	}
	return 0, false
}

func typeOf(raw any) string {
	switch raw.(type) {
	case nil:
		return "nothing"
	case bool:
		return "a boolean"
	case int, int64, uint64, float64:
		return "a number"
	case string:
		return "text"
	case []any:
		return "a list"
	case map[string]any, map[any]any:
		return "a section"
	case time.Time:
		return "a date"
	}
	return "something else"
}

// describe names a value for a message, and shows it if it is short.
func describe(raw any) string {
	switch raw.(type) {
	case bool, int, int64, uint64, float64:
		return fmt.Sprintf("%s (%v)", typeOf(raw), raw)
	case string:
		return fmt.Sprintf("text (%.40q)", raw)
	}
	return typeOf(raw)
}

// oneOf says that value is none of choices, or nothing.
func oneOf(value string, choices ...string) error {
	for _, c := range choices {
		if value == c {
			return nil
		}
	}
	last := len(choices) - 1
	wanted := strings.Join(choices[:last], ", ") + " or " + choices[last]
	if guess := nearest(value, choices); guess != "" {
		return fmt.Errorf("%q is not known; did you mean %q? It is one of %s", value, guess, wanted)
	}
	return errors.New(strconv.Quote(value) + " is not known; write " + wanted)
}
