package sftp

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// A request is one row of the table of requests.
type request struct {
	name string // OpenSSH's, for sftp-server -p and -P
	kind packetType

	extension string // of EXTENDED
	version   string // announced with the extension

	writes  bool // refused to read-only sessions; OPEN is looked at more closely
	changes bool // may change what READs see, without naming a handle
	handle  bool // RequestServer answers it about a handle, which is checked before

	// answer answers the request itself; its error ends the session. Nil:
	// RequestServer does, and is handed only what has these fields behind the
	// id: s string, u uint32, q uint64, a attributes.
	answer func(i *interposer, id uint32, c *cursor) error
	fields string
}

// requests is every request that is known. The interposer answers itself
//   - WRITE, for the order; see interposer,
//   - what names a handle, because RequestServer takes the path that the handle
//     was opened by, which may lead elsewhere by now,
//   - STAT and LSTAT, because RequestServer tells no atime, and MKDIR, because
//     it forgets the permissions,
//   - the extensions that it lacks.
//
// The order of the extensions is OpenSSH's.
var requests = []request{ //nolint:gochecknoglobals // a table
	{name: "open", kind: typeOpen, fields: "sua"},
	{name: "close", kind: typeClose, handle: true, fields: "s"},
	{name: "read", kind: typeRead, handle: true, fields: "squ"},
	{name: "write", kind: typeWrite, writes: true, answer: (*interposer).write},
	{name: "lstat", kind: typeLstat, answer: (*interposer).lstat},
	{name: "fstat", kind: typeFstat, answer: (*interposer).fstat},
	{name: "setstat", kind: typeSetstat, writes: true, changes: true, fields: "sa"},
	{name: "fsetstat", kind: typeFsetstat, writes: true, answer: (*interposer).fsetstat},
	{name: "opendir", kind: typeOpendir, fields: "s"},
	{name: "readdir", kind: typeReaddir, handle: true, fields: "s"},
	{name: "remove", kind: typeRemove, writes: true, fields: "s"},
	{name: "mkdir", kind: typeMkdir, writes: true, answer: (*interposer).mkdir},
	{name: "rmdir", kind: typeRmdir, writes: true, fields: "s"},
	{name: "realpath", kind: typeRealpath, fields: "s"},
	{name: "stat", kind: typeStat, answer: (*interposer).stat},
	{name: "rename", kind: typeRename, writes: true, fields: "ss"},
	{name: "readlink", kind: typeReadlink, fields: "s"},
	{name: "symlink", kind: typeSymlink, writes: true, fields: "ss"},

	{name: "posix-rename", extension: extPosixRename, version: "1", writes: true, fields: "ss"},
	{name: "statvfs", extension: extStatVFS, version: "2", answer: (*interposer).statVFS},
	{name: "fstatvfs", extension: extFstatVFS, version: "2", answer: (*interposer).fstatVFS},
	{name: "hardlink", extension: extHardlink, version: "1", writes: true, fields: "ss"},
	{name: "fsync", extension: extFsync, version: "1", writes: true, answer: (*interposer).fsync},
	{name: "lsetstat", extension: extLsetstat, version: "1", writes: true, answer: (*interposer).lsetstat},
	{name: "limits", extension: extLimits, version: "1", answer: (*interposer).limits},
	{name: "expand-path", extension: extExpandPath, version: "1", answer: (*interposer).expandPath},
	{name: "copy-data", extension: extCopyData, version: "1", writes: true, answer: (*interposer).copyData},
	{name: "home-directory", extension: extHomeDir, version: "1", answer: (*interposer).homeDirectory},
	{name: "users-groups-by-id", extension: extNamesByID, version: "1", answer: (*interposer).namesByID},
}

// RequestNames returns the names that ServerOptions.Allow and Deny may hold.
func RequestNames() []string {
	var all []string
	for _, r := range requests {
		all = append(all, r.name)
	}
	return all
}

// A requestTable finds requests by how they look on the wire, and knows which
// of them a session may use. It does not change once it is made.
type requestTable struct {
	plain    [256]*request
	extended map[string]*request
	denied   map[string]bool // by name
}

func newRequestTable(o ServerOptions) requestTable {
	t := requestTable{extended: make(map[string]*request), denied: make(map[string]bool)}
	for n := range requests {
		r := &requests[n]
		if r.extension == "" {
			t.plain[r.kind] = r
		} else {
			t.extended[r.extension] = r
		}
		t.denied[r.name] = r.writes && o.ReadOnly || slices.Contains(o.Deny, r.name) ||
			o.Allow != nil && !slices.Contains(o.Allow, r.name)
	}
	return t
}

// find returns the request of this kind or, for EXTENDED, this name, or why it
// is refused.
func (t *requestTable) find(kind packetType, extension []byte) (*request, error) {
	r := t.plain[kind]
	if kind == typeExtended {
		r = t.extended[string(extension)]
	}
	if r == nil {
		return nil, fmt.Errorf("request %d: %w", kind, errors.ErrUnsupported)
	}
	if t.denied[r.name] {
		return nil, fmt.Errorf("%s: %w", r.name, fs.ErrPermission)
	}
	return r, nil
}

// extensions returns the extensions that the session may use.
func (t *requestTable) extensions() []*request {
	var all []*request
	for n := range requests {
		if r := &requests[n]; r.extension != "" && !t.denied[r.name] {
			all = append(all, r)
		}
	}
	return all
}

// matches reports whether the cursor is at the fields that a request has.
func (c *cursor) matches(fields string) bool {
	for _, f := range fields {
		switch f {
		case 's':
			c.bytes()
		case 'u':
			c.uint32()
		case 'q':
			c.uint64()
		case 'a':
			c.attrs()
		}
	}
	return c.err == nil
}

// checkOpen says whether an OPEN may be handed on.
func (s *server) checkOpen(flags uint32) error {
	const changing = openWrite | openAppend | openCreate | openTrunc
	if flags&(openRead|changing) == 0 {
		return fmt.Errorf("%w: open for nothing", errBadPacket)
	}
	if s.o.ReadOnly && flags&changing != 0 {
		return fs.ErrPermission
	}
	return nil
}
