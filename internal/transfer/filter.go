package transfer

import (
	"fmt"
	"path"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"transferd/internal/tree"
)

// A filter says which names below a copied directory are left out. A pattern
// without a slash is matched against the last element, one with a slash against
// the path below the operand; "**" stands for any number of directories.
type filter struct {
	include []string
	exclude []string
}

func newFilter(include, exclude []string) (filter, error) {
	for _, p := range append(append([]string{}, include...), exclude...) {
		if !doublestar.ValidatePattern(p) {
			return filter{}, &UsageError{What: fmt.Sprintf("bad pattern %q", p), Hint: "patterns are globs: * ? [a-z] {a,b} **"}
		}
	}
	return filter{include: include, exclude: exclude}, nil
}

func (f filter) isEmpty() bool { return len(f.include) == 0 && len(f.exclude) == 0 }

// keeps reports whether the entry at p below the operand is copied. Includes
// choose among files only; directories are entered unless excluded.
func (f filter) keeps(p tree.Path, isDir bool) bool {
	if matchAny(f.exclude, p) {
		return false
	}
	return isDir || len(f.include) == 0 || matchAny(f.include, p)
}

func matchAny(patterns []string, p tree.Path) bool {
	for _, pattern := range patterns {
		name := p.String()
		if !strings.Contains(strings.TrimSuffix(pattern, "/"), "/") {
			name = path.Base(name)
		}
		pattern = strings.TrimSuffix(strings.TrimPrefix(pattern, "/"), "/")
		if ok, err := doublestar.Match(pattern, name); err == nil && ok {
			return true
		}
	}
	return false
}
