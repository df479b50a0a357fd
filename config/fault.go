package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Fault is one thing that is wrong with the configuration.
type Fault struct {
	File    string // "": the fault is in a flag or a variable
	Line    int    // in File; 0: not known
	Source  string // the flag or the variable; "" for a file
	Key     string // as in "users[1].root"; "": the file as a whole
	Problem string // what is wrong, and what would be right

	meant string // the known key that an unknown one probably is; "" if there is none
	cause error  // why the file cannot be read, nil otherwise
}

// String has it all on one line, the place first, as compilers do. A flag says
// itself which key it is.
func (f Fault) String() string {
	place, key := f.File, f.Key
	if f.Line > 0 {
		place += ":" + strconv.Itoa(f.Line)
	}
	if f.Source != "" {
		place = f.Source
	}
	if strings.HasPrefix(place, "--") {
		key = ""
	}
	parts := []string{place, key, f.Problem}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ": ")
}

// Faults is the error of LoadServer and LoadClient: everything that is wrong,
// in the order of the file. It is never empty.
type Faults []Fault

// Error has one line for every fault.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// maxMistakes is how many letters of a misspelling may be wrong.
const maxMistakes = 2

// nearest returns the candidate that s is probably a misspelling of, or "".
func nearest(s string, candidates []string) string {
	best, limit := "", min(1+len(s)/4, maxMistakes)
	for _, c := range candidates {
		if d := distance(strings.ToLower(s), c); d <= limit && d < len(c) {
			best, limit = c, d-1
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that make b of a.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a) // nobody misspells like that, and the work is len(a)·len(b)
	}
	var last, row, next []int
	for j := range len(b) + 1 {
		row = append(row, j)
	}
	for i := range len(a) {
		next = []int{i + 1}
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			d := min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, last[j-1]+1)
			}
			next = append(next, d)
		}
		last, row = row, next
	}
	return row[len(b)]
}

// unknownKey says what to write instead of name in the section at path.
// siblings are the keys of the section, all every key with its full path.
func unknownKey(name, path string, siblings, all []string) Fault {
	f := Fault{Key: join(path, name)}
	if guess := nearest(name, siblings); guess != "" {
		f.meant = join(path, guess)
		f.Problem = fmt.Sprintf("unknown key; did you mean %s?", f.meant)
		return f
	}
	for _, full := range all {
		if full != name && (strings.HasSuffix(full, "."+name) || full == strings.ReplaceAll(name, "_", ".")) {
			f.Problem = fmt.Sprintf("unknown key here; did you mean %s?", full)
			return f
		}
	}
	where := "the keys"
	if path != "" {
		where += " of " + path
	}
	f.Problem = fmt.Sprintf("unknown key; %s are %s", where, strings.Join(siblings, ", "))
	return f
}

// join makes the path of a key in the section at path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
