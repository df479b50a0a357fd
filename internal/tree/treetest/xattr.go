package treetest

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

func testXattrs(t *testing.T, s tree.Sink, l Limits) {
	x, is := s.(tree.Xattrer)
	if !is {
		return
	}
	Put(t, s, "f", []byte("f"))
	mkdir(t, s, "d")
	symlink(t, s, "f", "link")
	if _, err := x.Xattrs(t.Context(), "f"); errors.Is(err, errors.ErrUnsupported) {
		return
	}
	list := []tree.Xattr{{Name: "user.a", Value: []byte("1\x00\xff")}, {Name: "user.b", Value: []byte{}}, {Name: "user.c", Value: Data(1, 300)}}
	for _, p := range []tree.Path{"f", "d"} {
		wantXattrs(t, x, p)
		for _, now := range [][]tree.Xattr{{list[2], list[0]}, list, {list[1]}, {}} {
			err := s.SetAttr(t.Context(), p, tree.Attr{Xattrs: now, Mtime: ptr(moment())})
			if errors.Is(err, errors.ErrUnsupported) {
				return // it reads them, and cannot set any
			}
			ok(t, "SetAttr of extended attributes", err)
			wantXattrs(t, x, p, now...)
			wantMtime(t, l, lstat(t, s, p), moment())
		}
		ok(t, "SetAttr", s.SetAttr(t.Context(), p, tree.Attr{Xattrs: list}))
		ok(t, "SetAttr of nothing but a mode", s.SetAttr(t.Context(), p, tree.Attr{Perm: ptr(tree.Perm(0o700))}))
		wantXattrs(t, x, p, list...)
	}
	wantXattrs(t, x, "link") // not those of f
	if err := s.SetAttr(t.Context(), "link", tree.Attr{Xattrs: list}); err == nil {
		t.Error("SetAttr gives extended attributes to a symlink")
	}
	_, err := x.Xattrs(t.Context(), "no")
	wantErr(t, l, "Xattrs of nothing", err, fs.ErrNotExist)
	var many []tree.Xattr
	for i := range 129 {
		many = append(many, tree.Xattr{Name: fmt.Sprintf("user.%d", i)})
	}
	for name, bad := range map[string][]tree.Xattr{
		"no namespace":      {{Name: "a"}},
		"another namespace": {{Name: "trusted.a"}},
		"no name":           {{Name: "user."}},
		"NUL":               {{Name: "user.a\x00b"}},
		"too large":         {{Name: "user.a", Value: make([]byte, 64<<10+1)}},
		"too many":          many,
	} {
		if err := s.SetAttr(t.Context(), "f", tree.Attr{Xattrs: bad}); err == nil {
			t.Errorf("SetAttr takes extended attributes: %s", name)
		}
	}
	wantXattrs(t, x, "f", list...)
}

func testXattrsOfUploads(t *testing.T, s tree.Sink, _ Limits) {
	x, is := s.(tree.Xattrer)
	if !is {
		return
	}
	Put(t, s, "f", nil)
	if _, err := x.Xattrs(t.Context(), "f"); errors.Is(err, errors.ErrUnsupported) {
		return
	}
	list := []tree.Xattr{{Name: "user.a", Value: []byte("one")}, {Name: "user.b", Value: []byte("two")}}
	for _, n := range []int{100, chunk + 1} {
		data := Data(1, n)
		w := begin(t, s, Upload("f", data))
		write(t, w, Chunks(data))
		f := FinalOf(data)
		f.Attr.Xattrs, f.Attr.Perm = list, ptr(tree.Perm(0o440))
		commit(t, w, f)
		wantXattrs(t, x, "f", list...)
	}
	p, _ := putter(t, s)
	if p == nil {
		return
	}
	for _, name := range []tree.Path{"f", "new"} {
		small := Small(name, []byte("small"))
		small.Attr.Xattrs, small.Attr.Perm = list[:1], ptr(tree.Perm(0o440))
		put(t, p, small)
		wantXattrs(t, x, name, list[0])
		if e := lstat(t, s, name); e.Perm != 0o440 {
			t.Errorf("perm of %q = %o, want 440", name, e.Perm)
		}
	}
}

func wantXattrs(t *testing.T, x tree.Xattrer, p tree.Path, want ...tree.Xattr) {
	t.Helper()
	got, err := x.Xattrs(t.Context(), p)
	ok(t, fmt.Sprintf("Xattrs(%q)", p), err)
	if got == nil {
		t.Errorf("Xattrs(%q) = nil, want a list", p)
	}
	byName := map[string][]byte{}
	for _, a := range want {
		byName[a.Name] = a.Value
	}
	have := map[string][]byte{}
	for i, a := range got {
		if i > 0 && got[i-1].Name >= a.Name {
			t.Errorf("Xattrs(%q) is not sorted: %q before %q", p, got[i-1].Name, a.Name)
		}
		have[a.Name] = a.Value
	}
	if diff := cmp.Diff(byName, have); diff != "" {
		t.Errorf("Xattrs(%q) (-want +got):\n%s", p, diff)
	}
}
