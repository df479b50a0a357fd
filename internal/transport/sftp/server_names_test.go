//go:build linux

package sftp

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

// name returns the path in a NAME with one entry.
func (p *peer) name(kind packetType, fields ...any) (string, status) {
	p.t.Helper()
	got, c := p.call(kind, fields...)
	if got == typeStatus {
		return "", c.status()
	}
	if n := c.uint32(); got != typeName || n != 1 {
		p.t.Fatalf("request %d answered with type %d, %d names", kind, got, n)
	}
	return c.text(), statusOK
}

// attrs returns what an ATTRS says.
func (p *peer) attrs(kind packetType, fields ...any) (attrs, status) {
	p.t.Helper()
	got, c := p.call(kind, fields...)
	if got == typeStatus {
		return attrs{}, c.status()
	}
	if got != typeAttrs {
		p.t.Fatalf("request %d answered with type %d", kind, got)
	}
	return c.attrs(), statusOK
}

// list returns the names and long names of a directory, sorted.
func (p *peer) list(dir string) (names, long []string) {
	p.t.Helper()
	kind, c := p.call(typeOpendir, dir)
	if kind != typeHandle {
		p.t.Fatalf("OPENDIR %q: %v", dir, c.status())
	}
	h := c.text()
	for {
		kind, c := p.call(typeReaddir, h)
		if kind == typeStatus {
			if s := c.status(); s.code != codeEOF {
				p.t.Fatalf("READDIR: %v", s)
			}
			break
		}
		for n := c.uint32(); n > 0; n-- {
			names = append(names, c.text())
			long = append(long, c.text())
			c.attrs()
		}
	}
	p.ok(typeClose, h)
	slices.Sort(names)
	slices.Sort(long)
	return names, long
}

// odd are names that clients may use: any byte but "/" and NUL.
func odd() []string {
	return []string{
		"plain", "with space", " ", "line\nbreak", "tab\t", "\xff\xfe not UTF-8", "-rf", "...", "*?[a]", "~", "a\\b",
		"\x01", "%s%n", strings.Repeat("x", 255), ".transfer-0123456789abcdef0123456789abcdef.part",
	}
}

func TestNamesOfAnyByte(t *testing.T) {
	d := newDiskFS(t)
	p := serve(t, d, ServerOptions{})
	p.ok(typeMkdir, "dir", attrs{})
	want := []string{".", ".."}
	for _, name := range odd() {
		p.ok(typeClose, p.open("/dir/"+name, openWrite|openCreate|openExcl))
		want = append(want, name)
	}
	slices.Sort(want)
	got, _ := p.list("dir")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("READDIR (-want +got):\n%s", diff)
	}
	for _, name := range odd() {
		p.ok(typeRename, "dir/"+name, "/dir/renamed")
		p.ok(typeRemove, "dir/renamed")
	}
	p.ok(typeRmdir, "dir")
}

func TestLongNamesTellOwnersAndLinks(t *testing.T) {
	d := newDiskFS(t)
	writeFile(t, d, "f", "12345")
	if err := os.Link(d.abs("f"), d.abs("g")); err != nil {
		t.Fatal(err)
	}
	e, err := d.Lstat(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	p := serve(t, d, ServerOptions{})
	_, long := p.list("/")
	want := fmt.Sprintf("-rw-------    2 %-8s %-8s        5 ", e.Owner, e.Group)
	if !slices.ContainsFunc(long, func(l string) bool { return strings.HasPrefix(l, want) }) {
		t.Errorf("long names %q, none begins with %q", long, want)
	}
}

func TestManyNames(t *testing.T) {
	d := newDiskFS(t)
	want := []string{".", ".."}
	for n := range 250 {
		name := fmt.Sprintf("file%03d", n)
		writeFile(t, d, name, "")
		want = append(want, name)
	}
	p := serve(t, d, ServerOptions{})
	got, _ := p.list("")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("READDIR (-want +got):\n%s", diff)
	}
}

// TestNames checks requests about names against a directory that holds
// dir/sub, dir/file, link -> dir/file, dirlink -> dir, dangling -> dir/missing,
// up -> dir/../other, abs -> /nowhere, other.
func TestNames(t *testing.T) {
	var (
		noFile = status{codeNoSuchFile, "No such file"}
		exists = status{codeFailure, "File exists"}
		notDir = status{codeNoSuchFile, "Not a directory"}
		isDir  = status{codeFailure, "Is a directory"}
	)
	gone := func(name string) func(*testing.T, diskFS) {
		return func(t *testing.T, d diskFS) {
			t.Helper()
			if _, err := os.Lstat(d.abs(tree.Path(name))); err == nil {
				t.Errorf("%s is still there", name)
			}
		}
	}
	holds := func(name, want string) func(*testing.T, diskFS) {
		return func(t *testing.T, d diskFS) {
			t.Helper()
			if got := readFile(t, d, name); got != want {
				t.Errorf("%s holds %q, want %q", name, got, want)
			}
		}
	}
	mode := func(name string, want fs.FileMode) func(*testing.T, diskFS) {
		return func(t *testing.T, d diskFS) {
			t.Helper()
			fi, err := os.Lstat(d.abs(tree.Path(name)))
			if err != nil || fi.Mode() != want {
				t.Errorf("%s has mode %v, %v, want %v", name, fi.Mode(), err, want)
			}
		}
	}
	umask := func(u uint32) *uint32 { return &u }
	for _, tt := range []struct {
		name   string
		kind   packetType
		fields []any
		o      ServerOptions
		want   status
		check  func(*testing.T, diskFS)
	}{
		{"remove a file", typeRemove, []any{"other"}, ServerOptions{}, statusOK, gone("other")},
		{"remove a symlink, not its target", typeRemove, []any{"link"}, ServerOptions{}, statusOK, holds("dir/file", "file")},
		{"remove a symlink to a directory", typeRemove, []any{"dirlink"}, ServerOptions{}, statusOK, gone("dirlink")},
		{"remove a directory", typeRemove, []any{"dir/sub"}, ServerOptions{}, isDir, nil},
		{"remove nothing", typeRemove, []any{"missing"}, ServerOptions{}, noFile, nil},
		{"rmdir a directory", typeRmdir, []any{"dir/empty"}, ServerOptions{}, statusOK, gone("dir/empty")},
		{"rmdir a file", typeRmdir, []any{"other"}, ServerOptions{}, notDir, nil},
		{"rmdir a full directory", typeRmdir, []any{"dir"}, ServerOptions{}, status{codeFailure, "Directory not empty"}, nil},
		{"mkdir with permissions", typeMkdir, []any{"new", attrs{flags: attrPerm, mode: 0o700}}, ServerOptions{}, statusOK, mode("new", fs.ModeDir|0o700)},
		{"mkdir with -u", typeMkdir, []any{"new", attrs{flags: attrPerm, mode: 0o777}}, ServerOptions{Umask: umask(0o77)}, statusOK, mode("new", fs.ModeDir|0o700)},
		{"mkdir over a file", typeMkdir, []any{"other", attrs{}}, ServerOptions{}, exists, nil},
		{"open with permissions", typeOpen, []any{"new", uint32(openWrite | openCreate), attrs{flags: attrPerm | attrSize, mode: 0o640}}, ServerOptions{}, statusOK, mode("new", 0o640)},
		{"open with -u", typeOpen, []any{"new", uint32(openWrite | openCreate), attrs{flags: attrPerm, mode: 0o666}}, ServerOptions{Umask: umask(0o26)}, statusOK, mode("new", 0o640)},
		{"open exclusively", typeOpen, []any{"other", uint32(openWrite | openCreate | openExcl), attrs{}}, ServerOptions{}, exists, nil},
		{"open a symlink exclusively", typeOpen, []any{"dangling", uint32(openWrite | openCreate | openExcl), attrs{}}, ServerOptions{}, exists, nil},
		{"open for nothing", typeOpen, []any{"other", uint32(openExcl), attrs{}}, ServerOptions{}, status{codeBadMessage, "Bad message"}, nil},
		{"open a path with NUL", typeOpen, []any{"a\x00b", uint32(openRead), attrs{}}, ServerOptions{}, status{codeBadMessage, "Bad path"}, nil},
		{"rename", typeRename, []any{"other", "dir/new"}, ServerOptions{}, statusOK, holds("dir/new", "other")},
		{"rename refuses an existing name", typeRename, []any{"other", "dir/file"}, ServerOptions{}, exists, holds("dir/file", "file")},
		{"posix-rename replaces", typeExtended, []any{extPosixRename, "other", "dir/file"}, ServerOptions{}, statusOK, holds("dir/file", "other")},
		{"hardlink", typeExtended, []any{extHardlink, "other", "new"}, ServerOptions{}, statusOK, holds("new", "other")},
		{"hardlink refuses an existing name", typeExtended, []any{extHardlink, "other", "dir/file"}, ServerOptions{}, exists, nil},
		{"symlink, target first", typeSymlink, []any{"dir/file", "new"}, ServerOptions{}, statusOK, holds("new", "file")},
		{"symlink to any text", typeSymlink, []any{"../..//x/", "/dir/new"}, ServerOptions{}, statusOK, nil},
		{"setstat follows symlinks", typeSetstat, []any{"link", attrs{flags: attrPerm, mode: 0o100600}}, ServerOptions{}, statusOK, mode("dir/file", 0o600)},
		{"setstat of a dangling symlink", typeSetstat, []any{"dangling", attrs{flags: attrPerm, mode: 0o600}}, ServerOptions{}, noFile, nil},
		{"setstat truncates", typeSetstat, []any{"other", attrs{flags: attrSize, size: 2}}, ServerOptions{}, statusOK, holds("other", "ot")},
		{"setstat extends", typeSetstat, []any{"other", attrs{flags: attrSize, size: 7}}, ServerOptions{}, statusOK, holds("other", "other\x00\x00")},
		{"setstat to 2^63", typeSetstat, []any{"other", attrs{flags: attrSize, size: 1 << 63}}, ServerOptions{}, status{codeBadMessage, "Size out of range"}, nil},
		{"setstat of nothing", typeSetstat, []any{"missing", attrs{}}, ServerOptions{}, noFile, nil},
		{"lsetstat of a size", typeExtended, []any{extLsetstat, "link", attrs{flags: attrSize}}, ServerOptions{}, status{codeBadMessage, "Bad message"}, nil},
		{"unknown extension", typeExtended, []any{"x@example.org"}, ServerOptions{}, status{codeUnsupported, "Operation unsupported"}, nil},
		{"unknown type", 99, nil, ServerOptions{}, status{codeUnsupported, "Operation unsupported"}, nil},
		{"a reply as a request", typeData, []any{"x"}, ServerOptions{}, status{codeUnsupported, "Operation unsupported"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := namesFixture(t)
			p := serve(t, d, tt.o)
			kind, c := p.call(tt.kind, tt.fields...)
			got := statusOK
			if kind == typeStatus {
				got = c.status()
			}
			if got.code != tt.want.code || got.code != codeOK && got.text != tt.want.text {
				t.Errorf("answer %v, want %v", got, tt.want)
			}
			if tt.check != nil {
				tt.check(t, d)
			}
			if err := p.end(); err != nil {
				t.Errorf("Serve = %v", err)
			}
		})
	}
}

func namesFixture(t *testing.T) diskFS {
	t.Helper()
	d := newDiskFS(t)
	for _, dir := range []string{"dir", "dir/sub", "dir/empty"} {
		if err := os.Mkdir(filepath.Join(d.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, d, "dir/file", "file")
	writeFile(t, d, "other", "other")
	for name, target := range map[string]string{
		"link": "dir/file", "dirlink": "dir", "dangling": "dir/missing", "up": "dirlink/sub/../../other",
		"abs": "/nowhere/at/all", "loop": "loop", "dir/sub/back": "../file",
	} {
		if err := os.Symlink(target, filepath.Join(d.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestPathsAreResolved(t *testing.T) {
	d := namesFixture(t)
	host := serve(t, hostFS(), ServerOptions{
		Home: tree.Path(d.root[1:]),
		Homes: func(user string) (tree.Path, error) {
			if user == "alice" {
				return "", fs.ErrNotExist
			}
			return tree.Path(d.root[1:] + "/dirlink"), nil
		},
	})
	for _, tt := range []struct {
		path, want string
		code       code
	}{
		{".", "", 0},
		{"", "", 0},
		{"/", "ROOT/", 0},
		{"/../..", "ROOT/", 0},
		{"dir/../other", "/other", 0},
		{"dirlink", "/dir", 0},
		{"dirlink/..", "", 0},
		{"dirlink/sub/back", "/dir/file", 0},
		{"up", "/other", 0},
		{"link", "/dir/file", 0},
		{"dangling", "/dir/missing", 0},
		{"missing", "/missing", 0},
		{"missing/x", "", codeNoSuchFile},
		{"other/x", "", codeNoSuchFile},
		{"loop", "", codeNoSuchFile},
		{"//dir///./sub/", "", codeNoSuchFile}, // absolute: not below the home
		{d.root + "//dir///./sub/", "/dir/sub", 0},
	} {
		for _, kind := range []string{"REALPATH", "expand-path"} {
			var got string
			var s status
			if kind == "REALPATH" {
				got, s = host.name(typeRealpath, tt.path)
			} else {
				got, s = host.name(typeExtended, extExpandPath, tt.path)
			}
			want := d.root + tt.want
			if after, ok := strings.CutPrefix(tt.want, "ROOT"); ok {
				want = after
			}
			if tt.code != codeOK {
				want = ""
			}
			if s.code != tt.code || got != want {
				t.Errorf("%s %q = %q, %v, want %q, code %d", kind, tt.path, got, s, want, tt.code)
			}
		}
	}
	for path, want := range map[string]string{"~": d.root, "~/dir": d.root + "/dir", "~bob/sub": d.root + "/dir/sub"} {
		if got, s := host.name(typeExtended, extExpandPath, path); got != want {
			t.Errorf("expand-path %q = %q, %v, want %q", path, got, s, want)
		}
	}
	if got, s := host.name(typeExtended, extExpandPath, "~alice/x"); s.code != codeNoSuchFile {
		t.Errorf("expand-path of a stranger = %q, %v", got, s)
	}
	if got, s := host.name(typeExtended, extHomeDir, ""); got != d.root {
		t.Errorf("home-directory = %q, %v, want %q", got, s, d.root)
	}
	if got, s := host.name(typeReadlink, "up"); got != "dirlink/sub/../../other" {
		t.Errorf("READLINK = %q, %v", got, s)
	}
	if got, s := host.name(typeReadlink, "other"); s.code != codeBadMessage {
		t.Errorf("READLINK of a file = %q, %v", got, s)
	}
}

func TestAttributes(t *testing.T) {
	d := namesFixture(t)
	p := serve(t, d, ServerOptions{})
	times := attrs{flags: attrTimes, atime: 1_000_000_000, mtime: 1_200_000_000}
	p.ok(typeSetstat, "link", times)
	p.ok(typeExtended, extLsetstat, "link", attrs{flags: attrTimes, atime: 7, mtime: 8})
	got, s := p.attrs(typeStat, "/link")
	if got.atime != times.atime || got.mtime != times.mtime || got.mode != modeFile|0o600 || got.size != 4 {
		t.Errorf("STAT = %+v, %v", got, s)
	}
	got, s = p.attrs(typeLstat, "link")
	if got.mtime != 8 || kindOf(got.mode) != tree.KindSymlink {
		t.Errorf("LSTAT = %+v, %v", got, s)
	}
	if got, s := p.attrs(typeStat, "dir"); kindOf(got.mode) != tree.KindDir {
		t.Errorf("STAT of a directory = %+v, %v", got, s)
	}
	if _, s := p.attrs(typeStat, "abs"); s.code != codeNoSuchFile {
		t.Errorf("STAT of nothing: %v", s)
	}

	// By handle: the file itself, wherever its name has gone.
	h := p.open("other", openRead|openWrite)
	p.ok(typeRename, "other", "moved")
	writeFile(t, d, "other", "a longer impostor")
	if got, s := p.attrs(typeFstat, h); got.size != 5 {
		t.Errorf("FSTAT = %+v, %v, want the size of what was opened", got, s)
	}
	p.ok(typeFsetstat, h, attrs{flags: attrSize | attrPerm | attrTimes, size: 2, mode: 0o644, atime: 5, mtime: 6})
	got, s = p.attrs(typeStat, "moved")
	if got.size != 2 || got.mode != modeFile|0o644 || got.atime != 5 || got.mtime != 6 {
		t.Errorf("STAT after FSETSTAT = %+v, %v", got, s)
	}
	if got := readFile(t, d, "other"); got != "a longer impostor" {
		t.Errorf("FSETSTAT changed another file to %q", got)
	}
}

func TestExtensions(t *testing.T) {
	d := namesFixture(t)
	p := serve(t, d, ServerOptions{MaxHandles: 77})
	kind, c := p.call(typeExtended, extLimits)
	if want := "0000000000040000" + "000000000003fc00" + "000000000003fc00" + "000000000000004d"; kind != typeExtendedReply || hex.EncodeToString(c.b) != want {
		t.Errorf("limits = %x, want %s", c.b, want)
	}

	kind, c = p.call(typeExtended, extStatVFS, "dir")
	h := p.open("other", openRead|openWrite)
	fkind, fc := p.call(typeExtended, extFstatVFS, h)
	if kind != typeExtendedReply || fkind != kind || len(c.b) != 88 || len(fc.b) != 88 {
		t.Errorf("statvfs: type %d, %d bytes; fstatvfs: type %d, %d bytes", kind, len(c.b), fkind, len(fc.b))
	}
	if block, fragment, total := c.uint64(), c.uint64(), c.uint64(); block == 0 || fragment != block || total == 0 {
		t.Errorf("statvfs: blocks of %d, fragments of %d, %d of them", block, fragment, total)
	}
	p.ok(typeExtended, extFsync, h)

	_, _ = p.list("/") // tells the session the names of owners
	e, err := d.Lstat(t.Context(), "other")
	if err != nil {
		t.Fatal(err)
	}
	var ids, unknown builder
	ids.uint32(e.UID)
	ids.uint32(4_000_000_000)
	unknown.uint32(4_000_000_000)
	_, c = p.call(typeExtended, extNamesByID, ids.b, unknown.b)
	users, groups := cursor{b: c.bytes()}, cursor{b: c.bytes()}
	if got := []string{users.text(), users.text(), groups.text()}; !slices.Equal(got, []string{e.Owner, "", ""}) || c.err != nil {
		t.Errorf("users-groups-by-id = %q, %v, want %q", got, c.err, e.Owner)
	}
}

func TestCopyData(t *testing.T) {
	same := status{codeFailure, "Copy of a file onto itself"}
	big := strings.Repeat("0123456789", 60_000)
	for _, tt := range []struct {
		name               string
		from, to           string
		off, length, toOff uint64
		want               status
		content            string
	}{
		{"all", "src", "dst", 0, 0, 0, statusOK, big},
		{"a part", "src", "dst", 3, 4, 0, statusOK, "3456"},
		{"to an offset", "src", "dst", 1, 2, 2, statusOK, "\x00\x0012"},
		{"more than there is", "src", "dst", 599_998, 100, 0, statusOK, "89"},
		{"from behind the end", "src", "dst", 1 << 40, 0, 0, statusOK, ""},
		{"onto itself", "src", "src", 0, 0, 0, same, ""},
		{"onto itself by another name", "src", "link", 0, 0, 0, same, ""},
		{"from 2^63", "src", "dst", 1 << 63, 0, 0, status{codeBadMessage, "Size out of range"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDiskFS(t)
			writeFile(t, d, "src", big)
			if err := os.Link(d.abs("src"), d.abs("link")); err != nil {
				t.Fatal(err)
			}
			writeFile(t, d, "dst", "")
			p := serve(t, d, ServerOptions{})
			from, to := p.open(tt.from, openRead), p.open(tt.to, openWrite)
			got := p.status(typeExtended, extCopyData, from, tt.off, tt.length, to, tt.toOff)
			if got != tt.want {
				t.Errorf("copy-data: %v, want %v", got, tt.want)
			}
			if got := readFile(t, d, "dst"); got != tt.content {
				t.Errorf("copied %d bytes, want %d", len(got), len(tt.content))
			}
			if got := readFile(t, d, "src"); got != big {
				t.Error("the source has changed")
			}
		})
	}
}

func TestForbiddenRequests(t *testing.T) {
	denied := status{codePermissionDenied, "Permission denied"}
	for _, tt := range []struct {
		name string
		o    ServerOptions
		deny []string // of tries
	}{
		{"read only", ServerOptions{ReadOnly: true}, []string{
			"create", "truncate", "append", "write", "setstat", "fsetstat", "remove", "mkdir", "rmdir", "rename", "symlink",
			"posix-rename", "hardlink", "fsync", "lsetstat", "copy-data",
		}},
		{"denied", ServerOptions{Deny: []string{"remove", "limits", "stat"}}, []string{"remove", "limits", "stat"}},
		{"denied wins", ServerOptions{Allow: RequestNames(), Deny: []string{"realpath"}}, []string{"realpath"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := namesFixture(t)
			p := serve(t, d, tt.o)
			h := p.open("dir/file", openRead)
			for _, try := range []struct {
				name   string
				kind   packetType
				fields []any
			}{
				{"create", typeOpen, []any{"new", uint32(openRead | openCreate), attrs{}}},
				{"truncate", typeOpen, []any{"other", uint32(openRead | openTrunc), attrs{}}},
				{"append", typeOpen, []any{"other", uint32(openAppend), attrs{}}},
				{"write", typeWrite, []any{h, uint64(0), "x"}},
				{"setstat", typeSetstat, []any{"other", attrs{}}},
				{"fsetstat", typeFsetstat, []any{h, attrs{}}},
				{"mkdir", typeMkdir, []any{"new2", attrs{}}},
				{"rmdir", typeRmdir, []any{"new2"}},
				{"rename", typeRename, []any{"other", "new3"}},
				{"symlink", typeSymlink, []any{"x", "new4"}},
				{"posix-rename", typeExtended, []any{extPosixRename, "new3", "new5"}},
				{"hardlink", typeExtended, []any{extHardlink, "new5", "new6"}},
				{"fsync", typeExtended, []any{extFsync, h}},
				{"lsetstat", typeExtended, []any{extLsetstat, "link", attrs{flags: attrTimes}}},
				{"copy-data", typeExtended, []any{extCopyData, h, uint64(0), uint64(0), h, uint64(0)}},
				{"limits", typeExtended, []any{extLimits}},
				{"stat", typeStat, []any{"other"}},
				{"realpath", typeRealpath, []any{"other"}},
				{"remove", typeRemove, []any{"new6"}},
			} {
				kind, c := p.call(try.kind, try.fields...)
				got := kind == typeStatus && c.status() == denied
				if want := slices.Contains(tt.deny, try.name); got != want {
					t.Errorf("%s: denied = %v, want %v", try.name, got, want)
				}
			}
			if tt.o.ReadOnly {
				if diff := cmp.Diff(snapshot(t, namesFixture(t)), snapshot(t, d)); diff != "" {
					t.Errorf("a read-only session changed the tree (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// snapshot lists a tree: names, modes, contents.
func snapshot(t *testing.T, d diskFS) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(d.root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		line := strings.TrimPrefix(path, d.root) + " " + e.Type().String()
		if e.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(b)
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
