package session

import (
	"fmt"
	"strings"
)

// Permissions is a set of rights. The zero value allows nothing.
type Permissions uint8

// The rights that a login can have.
const (
	// List: see names and attributes.
	List Permissions = 1 << iota

	// Read: open files for reading.
	Read

	// Write: make files, directories and links, write into files, rename, and
	// set attributes. It takes nothing away: what exists is neither truncated
	// nor replaced, unless it is a partial of an unfinished copy.
	Write

	// Delete: remove, replace by renaming, and truncate.
	Delete

	// All is every right there is.
	All = List | Read | Write | Delete
)

// permissionNames are the names in configurations, in the order of the bits.
var permissionNames = [...]string{"list", "read", "write", "delete"} //nolint:gochecknoglobals // a table

// ParsePermissions returns the rights that names name: list, read, write,
// delete.
func ParsePermissions(names []string) (Permissions, error) {
	var all Permissions
next:
	for _, name := range names {
		for i, known := range permissionNames {
			if name == known {
				all |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("unknown permission %q: use %s", name, strings.Join(permissionNames[:], ", "))
	}
	return all, nil
}

// Has reports whether p holds all of q.
func (p Permissions) Has(q Permissions) bool { return p&q == q }

// String returns the names in p, separated by commas; "none" for an empty set.
func (p Permissions) String() string {
	var names []string
	for i, name := range permissionNames {
		if p.Has(1 << i) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ",")
}

// An operation is a row of the table.
type operation uint8

const (
	opStat operation = iota
	opList
	opSpace
	opSub
	opRead
	opSum
	opXattrs
	opWrite
	opTruncate
	opMkdir
	opSymlink
	opLink
	opRename
	opReplace
	opSetAttr
	opRemove
	opUpload
	opUploadOver
	opDisguise
)

// An access is what an operation is called in errors and what it needs.
type access struct {
	name  string
	needs Permissions

	// partials are the rights that do as well where the name is one that only
	// unfinished copies have. Nobody's finished file is lost with one, and
	// without this a login that may write could not start a copy again.
	partials Permissions
}

// table is who may do what. Nothing else in this package compares rights.
var table = [...]access{ //nolint:gochecknoglobals // a table
	opStat:       {"stat", List, List},
	opList:       {"list", List, List},
	opSpace:      {"statfs", List, List},
	opSub:        {"open directory", 0, 0}, // what is done below it is asked for then
	opRead:       {"open", Read, Read},
	opSum:        {"sum", Read, Read},
	opXattrs:     {"read attributes of", Read, Read},
	opWrite:      {"write", Write, Write},
	opTruncate:   {"truncate", Write | Delete, Write},
	opMkdir:      {"mkdir", Write, Write},
	opSymlink:    {"symlink", Write, Write},
	opLink:       {"link", Write, Write},
	opRename:     {"rename", Write, Write},
	opReplace:    {"replace", Write | Delete, Write},
	opSetAttr:    {"set attributes", Write, Write},
	opRemove:     {"remove", Delete, Write},
	opUpload:     {"upload", Write, Write},
	opUploadOver: {"upload over", Write | Delete, Write},

	// Giving a partial's name to what is none would take away what the
	// exceptions for partials protect.
	opDisguise: {"disguise", Write | Delete, Write | Delete},
}
