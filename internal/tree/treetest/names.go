package treetest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

func testMkdir(t *testing.T, s tree.Sink, l Limits) {
	mkdir(t, s, "d")
	mkdir(t, s, "d/e")
	if e := lstat(t, s, "d/e"); e.Kind != tree.KindDir || e.Name != "e" {
		t.Errorf("Lstat(d/e) = %v %q, want a dir named e", e.Kind, e.Name)
	}
	wantNames(t, s, tree.Root, "d")
	wantNames(t, s, "d/e")
	wantErr(t, l, "Mkdir of an existing name", s.Mkdir(t.Context(), "d", 0o755), fs.ErrExist)
	wantErr(t, l, "Mkdir without parent", s.Mkdir(t.Context(), "x/y", 0o755), fs.ErrNotExist)
	Put(t, s, "f", nil)
	wantErr(t, l, "Mkdir below a file", s.Mkdir(t.Context(), "f/y", 0o755), tree.ErrNotDir)
}

func testSymlink(t *testing.T, s tree.Sink, l Limits) {
	mkdir(t, s, "d")
	Put(t, s, "d/f", []byte("content"))
	for name, target := range map[string]string{
		"relative": "d/f", "dangling": "no/where", "absolute": "/etc/hostname", "escaping": "../../up", "odd": "a b\n", "dir": "d",
	} {
		symlink(t, s, target, tree.Path(name))
		e := lstat(t, s, tree.Path(name))
		if e.Kind != tree.KindSymlink || e.Link != target {
			t.Errorf("Lstat(%q) = %v to %q, want a symlink to %q", name, e.Kind, e.Link, target)
		}
	}
	e, err := s.Stat(t.Context(), "relative")
	ok(t, "Stat", err)
	if e.Kind != tree.KindFile || e.Size != 7 || e.Name != "relative" {
		t.Errorf("Stat of a symlink = %v of %d bytes named %q, want the file", e.Kind, e.Size, e.Name)
	}
	want(t, s, "relative", []byte("content"))
	want(t, s, "dir/f", []byte("content"))
	wantNames(t, s, "dir", "f")
	_, err = s.Stat(t.Context(), "dangling")
	wantErr(t, l, "Stat of a dangling symlink", err, fs.ErrNotExist)
	wantErr(t, l, "Symlink at an existing name", s.Symlink(t.Context(), "x", "d"), fs.ErrExist)
	for e, err := range s.List(t.Context(), tree.Root) {
		ok(t, "List", err)
		if e.Name == "escaping" && e.Link != "../../up" {
			t.Errorf("List tells %q as the target of a symlink, want ../../up", e.Link)
		}
	}
}

func testRename(t *testing.T, s tree.Sink, l Limits) {
	mkdir(t, s, "d")
	Put(t, s, "a", []byte("a"))
	Put(t, s, "b", []byte("b"))
	ok(t, "Rename", s.Rename(t.Context(), "a", "d/a", tree.RenameReplace))
	want(t, s, "d/a", []byte("a"))
	wantErr(t, l, "Rename NoReplace", s.Rename(t.Context(), "b", "d/a", tree.RenameNoReplace), fs.ErrExist)
	want(t, s, "d/a", []byte("a"))
	want(t, s, "b", []byte("b"))
	ok(t, "Rename NoReplace to a new name", s.Rename(t.Context(), "b", "c", tree.RenameNoReplace))
	ok(t, "Rename Replace", s.Rename(t.Context(), "c", "d/a", tree.RenameReplace))
	want(t, s, "d/a", []byte("b"))
	wantErr(t, l, "Rename of nothing", s.Rename(t.Context(), "no", "x", tree.RenameReplace), fs.ErrNotExist)
	ok(t, "Rename of a directory", s.Rename(t.Context(), "d", "e", tree.RenameReplace))
	wantNames(t, s, tree.Root, "e")
	symlink(t, s, "e/a", "link")
	ok(t, "Rename of a symlink", s.Rename(t.Context(), "link", "link2", tree.RenameReplace))
	if e := lstat(t, s, "link2"); e.Kind != tree.KindSymlink {
		t.Errorf("a renamed symlink is a %v", e.Kind)
	}
	want(t, s, "e/a", []byte("b"))
}

func testRemove(t *testing.T, s tree.Sink, l Limits) {
	mkdir(t, s, "d")
	Put(t, s, "d/f", []byte("f"))
	symlink(t, s, "d", "link")
	wantErr(t, l, "Remove of a full directory", s.Remove(t.Context(), "d"), tree.ErrNotEmpty)
	ok(t, "Remove of a symlink", s.Remove(t.Context(), "link"))
	want(t, s, "d/f", []byte("f"))
	ok(t, "Remove of a file", s.Remove(t.Context(), "d/f"))
	ok(t, "Remove of a directory", s.Remove(t.Context(), "d"))
	wantErr(t, l, "Remove of nothing", s.Remove(t.Context(), "d"), fs.ErrNotExist)
	wantNames(t, s, tree.Root)
}

func testSetAttr(t *testing.T, s tree.Sink, l Limits) {
	mkdir(t, s, "d")
	Put(t, s, "f", []byte("0123456789"))
	for _, p := range []tree.Path{"d", "f"} {
		ok(t, "SetAttr", s.SetAttr(t.Context(), p, tree.Attr{Perm: ptr(tree.Perm(0o711))}))
		ok(t, "SetAttr", s.SetAttr(t.Context(), p, tree.Attr{Mtime: ptr(moment())}))
		e := lstat(t, s, p)
		if e.Perm != 0o711 {
			t.Errorf("perm of %q = %o, want 711", p, e.Perm)
		}
		wantMtime(t, l, e, moment())
	}
	ok(t, "SetAttr size", s.SetAttr(t.Context(), "f", tree.Attr{Size: ptr(int64(3))}))
	want(t, s, "f", []byte("012"))
	wantErr(t, l, "SetAttr of nothing", s.SetAttr(t.Context(), "no", tree.Attr{Mtime: ptr(moment())}), fs.ErrNotExist)
}

func testSetAttrSymlink(t *testing.T, s tree.Sink, l Limits) {
	Put(t, s, "f", nil)
	ok(t, "SetAttr", s.SetAttr(t.Context(), "f", tree.Attr{Mtime: ptr(moment().AddDate(1, 0, 0))}))
	symlink(t, s, "f", "link")
	err := s.SetAttr(t.Context(), "link", tree.Attr{Mtime: ptr(moment())})
	if l.NoSymlinkAttrs && errors.Is(err, errors.ErrUnsupported) {
		return
	}
	ok(t, "SetAttr of a symlink", err)
	wantMtime(t, l, lstat(t, s, "link"), moment())
	wantMtime(t, l, lstat(t, s, "f"), moment().AddDate(1, 0, 0))
}

func testList(t *testing.T, s tree.Sink, l Limits) {
	mkdir(t, s, "d")
	Put(t, s, "d/f", []byte("four"))
	symlink(t, s, "f", "d/l")
	mkdir(t, s, "d/s")
	got := map[string]string{}
	for e, err := range s.List(t.Context(), "d") {
		ok(t, "List", err)
		got[e.Name] = fmt.Sprint(e.Kind)
		if e.Kind == tree.KindFile && e.Size != 4 {
			t.Errorf("List tells %d bytes for f, want 4", e.Size)
		}
	}
	if diff := cmp.Diff(map[string]string{"f": "file", "l": "symlink", "s": "dir"}, got); diff != "" {
		t.Errorf("List(d) (-want +got):\n%s", diff)
	}
	for _, test := range []struct {
		p   tree.Path
		err error
	}{{"no", fs.ErrNotExist}, {"d/f", tree.ErrNotDir}} {
		var last error
		for _, err := range s.List(t.Context(), test.p) {
			last = err
		}
		wantErr(t, l, fmt.Sprintf("List(%q)", test.p), last, test.err)
	}
}

func testListLarge(t *testing.T, s tree.Sink, _ Limits) {
	mkdir(t, s, "d")
	all := make([]string, 1100)
	for i := range all {
		all[i] = fmt.Sprintf("name-%d", i)
		symlink(t, s, "x", tree.Path("d").Join(all[i]))
	}
	for _, err := range s.List(t.Context(), "d") {
		ok(t, "List", err)
		break // an early end is no fault
	}
	wantNames(t, s, "d", all...)
}

func testOddNames(t *testing.T, s tree.Sink, l Limits) {
	longest := 255
	if l.MaxName > 0 {
		longest = l.MaxName
	}
	odd := []string{
		" ", "a b", " lead", "trail ", "new\nline", "tab\t", "-rf", "...", "..a", ".hidden", "*?[a]", `back\slash`,
		`"quoted'`, "~", "a:b", "$HOME", "\x01\x7f", "ünï", "e\u0301", strings.Repeat("n", longest),
	}
	if !l.UTF8Names {
		odd = append(odd, "\xff\xfe", "half\xc3")
	}
	for _, dir := range []tree.Path{"files", "dirs"} {
		mkdir(t, s, dir)
	}
	for i, name := range odd {
		Put(t, s, tree.Path("files").Join(name), []byte{byte(i)})
		mkdir(t, s, tree.Path("dirs").Join(name))
		Put(t, s, tree.Path("dirs").Join(name).Join("f"), []byte{byte(i)})
	}
	wantNames(t, s, "files", odd...)
	wantNames(t, s, "dirs", odd...)
	for i, name := range odd {
		want(t, s, tree.Path("files").Join(name), []byte{byte(i)})
		want(t, s, tree.Path("dirs").Join(name).Join("f"), []byte{byte(i)})
		ok(t, "Remove", s.Remove(t.Context(), tree.Path("files").Join(name)))
	}
	wantNames(t, s, "files")
}
