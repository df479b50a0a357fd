package tree

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A Path names something in a tree: slash-separated and relative to the
// tree's root, in its shortest form ("a/b", never "a//b", "./a" or "a/../b").
// An element is any bytes but '/' and NUL, UTF-8 or not. The zero value is not
// a path; Root is the tree itself.
type Path string

// Root is the path of a tree's root.
const Root Path = "."

// ErrBadPath says that a text is no path.
var ErrBadPath = errors.New("not a path")

// ParsePath makes a Path of what a peer or a person wrote. Leading and
// repeated slashes and "." are dropped, and ".." takes back the element before
// it, as if the root were the parent of itself: no text leads out of the tree.
// It does not look at the disk, so it fits trees whose root nobody leaves.
func ParsePath(s string) (Path, error) {
	if strings.IndexByte(s, 0) >= 0 {
		return "", fmt.Errorf("%w: %q holds a NUL byte", ErrBadPath, s)
	}
	var elems []string
	for elem := range strings.SplitSeq(s, "/") {
		switch elem {
		case "", ".":
		case "..":
			if len(elems) > 0 {
				elems = elems[:len(elems)-1]
			}
		default:
			elems = append(elems, elem)
		}
	}
	if len(elems) == 0 {
		return Root, nil
	}
	return Path(strings.Join(elems, "/")), nil
}

// CheckName reports whether name can be one element of a path.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%w: %q is no file name", ErrBadPath, name)
	}
	return nil
}

// Join returns the path of name in directory p. The name must be one element
// that CheckName accepts.
func (p Path) Join(name string) Path {
	if p == Root {
		return Path(name)
	}
	return p + "/" + Path(name)
}

// Append returns q taken relative to p.
func (p Path) Append(q Path) Path {
	switch {
	case p == Root:
		return q
	case q == Root:
		return p
	}
	return p + "/" + q
}

// Parent returns the directory that holds p. Root is its own parent.
func (p Path) Parent() Path {
	if i := strings.LastIndexByte(string(p), '/'); i >= 0 {
		return p[:i]
	}
	return Root
}

// Base returns the last element of p, "." for Root.
func (p Path) Base() string {
	return string(p[strings.LastIndexByte(string(p), '/')+1:])
}

// String returns the path as text; it may hold any byte but NUL.
func (p Path) String() string { return string(p) }

// partialPrefix begins every name that a copy uses before it is finished.
const partialPrefix = ".transfer-"

// PartialName returns the name, without its suffix, of what a copy from origin
// to the name base keeps beside it until it is finished: ".transfer-" and 32
// hex digits, whatever the length of base. The suffixes are ".part" (the
// bytes), ".journal" (what of them is durable) and ".dir" (an unfinished
// directory's marker).
func PartialName(origin, base string) string {
	sum := sha256.Sum256([]byte(origin + "\x00" + base))
	return partialPrefix + hex.EncodeToString(sum[:16])
}

// IsPartialName reports whether name is one that PartialName makes, with its
// suffix. Listings for people and recursive copies leave such names out.
func IsPartialName(name string) bool {
	rest, ok := strings.CutPrefix(name, partialPrefix)
	if !ok || len(rest) < 32 {
		return false
	}
	if _, err := hex.DecodeString(rest[:32]); err != nil {
		return false
	}
	switch rest[32:] {
	case ".part", ".journal", ".dir":
		return true
	}
	return false
}
