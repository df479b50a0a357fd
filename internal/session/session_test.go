package session_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"transferd/internal/session"
	"transferd/internal/store"
	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

const partial = ".transfer-0123456789abcdef0123456789abcdef.part"

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAllPermissionsChangeNothing(t *testing.T) {
	t.Run("Sink", func(t *testing.T) {
		treetest.Run(t, func(t *testing.T) tree.Sink {
			t.Helper()
			return session.New(openStore(t), session.Login{Permissions: session.All})
		})
	})
	t.Run("FS", func(t *testing.T) {
		treetest.RunFS(t, func(t *testing.T) tree.FS {
			t.Helper()
			return session.New(openStore(t), session.Login{Permissions: session.All})
		})
	})
}

// fixture is a tree with dir/, full and empty files, a symlink and a partial.
func fixture(t *testing.T) *store.Store {
	t.Helper()
	s := openStore(t)
	err := errors.Join(
		s.Mkdir(t.Context(), "dir", 0o755),
		s.Symlink(t.Context(), "full", "link"),
		fill(t.Context(), s, "full", "data"),
		fill(t.Context(), s, "empty", ""),
		fill(t.Context(), s, partial, "half"),
	)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fill(ctx context.Context, s tree.FS, p tree.Path, data string) error {
	f, err := s.OpenFile(ctx, p, tree.OpenWrite|tree.OpenCreate|tree.OpenTruncate, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(data), 0)
	return errors.Join(err, f.Close())
}

func size(n int64) tree.Attr { return tree.Attr{Size: &n} }

func perm(p tree.Perm) tree.Attr { return tree.Attr{Perm: &p} }

// A try is something that a login does.
type try struct {
	name string
	do   func(ctx context.Context, s *session.Session) error
}

func tries() []try {
	type (
		ctx = context.Context
		ses = session.Session
	)
	open := func(p tree.Path, flags tree.OpenFlags) func(ctx, *ses) error {
		return func(c ctx, s *ses) error {
			f, err := s.OpenFile(c, p, flags, 0o644)
			if err != nil {
				return err
			}
			return f.Close()
		}
	}
	file := func(p tree.Path, flags tree.OpenFlags, do func(ctx, tree.File) error) func(ctx, *ses) error {
		return func(c ctx, s *ses) error {
			f, err := s.OpenFile(c, p, flags, 0o644)
			if err != nil {
				return err
			}
			return errors.Join(do(c, f), f.Close())
		}
	}
	upload := func(u tree.Upload) func(ctx, *ses) error {
		return func(c ctx, s *ses) error {
			u.Size, u.ChunkSize = 0, tree.MinChunkSize
			w, err := s.Begin(c, u)
			if err != nil {
				return err
			}
			value := tree.ChunkValue(nil, 0, u.ChunkSize, true)
			err = w.WriteChunk(c, tree.Chunk{Value: value})
			if err == nil {
				_, err = w.Commit(c, tree.Final{Digest: tree.Digest(value), Values: []tree.Value{value}, HasDigest: true})
			}
			if err != nil {
				return errors.Join(err, w.Suspend(c))
			}
			return nil
		}
	}
	put := func(f tree.Small) func(ctx, *ses) error {
		return func(c ctx, s *ses) error {
			f.Data, f.Origin = []byte("small"), "o"
			f.Digest = tree.Digest(tree.ChunkValue(f.Data, 0, tree.MinChunkSize, true))
			_, err := s.Put(c, f)
			return err
		}
	}
	part := func(do func(ctx, tree.SubTree) error) func(ctx, *ses) error {
		return func(c ctx, s *ses) error {
			t, err := s.Sub(c, tree.Root)
			if err != nil {
				return err
			}
			return errors.Join(do(c, t), t.Close())
		}
	}
	xattrs := tree.Attr{Xattrs: []tree.Xattr{}}
	return []try{
		{"put", put(tree.Small{Path: "new10"})},
		{"put over a file", put(tree.Small{Path: "full"})},
		{"put over a symlink", put(tree.Small{Path: "link"})},
		{"put in place", put(tree.Small{Path: "full", InPlace: true})},
		{"put in a part", part(func(c ctx, t tree.SubTree) error {
			f := tree.Small{Path: "new11", Digest: tree.Digest(tree.ChunkValue(nil, 0, tree.MinChunkSize, true))}
			_, err := t.(tree.Putter).Put(c, f)
			return err
		})},
		{"get", func(c ctx, s *ses) error { _, err := s.Get(c, "dir", 10); return err }},
		{"get in a part", part(func(c ctx, t tree.SubTree) error { _, err := t.(tree.Getter).Get(c, "dir", 10); return err })},
		{"sum", func(c ctx, s *ses) error { _, err := s.Sum(c, "dir"); return err }},
		{"sum in a part", part(func(c ctx, t tree.SubTree) error { _, err := t.(tree.Summer).Sum(c, "dir"); return err })},
		{"link in a part", part(func(c ctx, t tree.SubTree) error { return t.(tree.Linker).Link(c, "full", "new12") })},
		{"statfs in a part", part(func(c ctx, t tree.SubTree) error { _, err := t.(tree.Spacer).StatFS(c, tree.Root); return err })},
		{"read xattrs", func(c ctx, s *ses) error { _, err := s.Xattrs(c, "dir"); return err }},
		{"read xattrs in a part", part(func(c ctx, t tree.SubTree) error { _, err := t.(tree.Xattrer).Xattrs(c, "dir"); return err })},
		{"set xattrs", func(c ctx, s *ses) error { return s.SetAttr(c, "dir", xattrs) }},
		{"stat", func(c ctx, s *ses) error { _, err := s.Stat(c, "full"); return err }},
		{"lstat", func(c ctx, s *ses) error { _, err := s.Lstat(c, "link"); return err }},
		{"list", func(c ctx, s *ses) error {
			for _, err := range s.List(c, tree.Root) {
				if err != nil {
					return err
				}
			}
			return nil
		}},
		{"statfs", func(c ctx, s *ses) error { _, err := s.StatFS(c, tree.Root); return err }},
		{"open", func(c ctx, s *ses) error {
			r, err := s.Open(c, "full")
			if err != nil {
				return err
			}
			return r.Close()
		}},
		{"open to read", open("full", tree.OpenRead)},
		{"open for nothing", open("full", 0)},
		{"open to read and create", open("new", tree.OpenRead|tree.OpenCreate|tree.OpenWrite)},
		{"open to write", open("full", tree.OpenWrite)},
		{"open to append", open("full", tree.OpenWrite|tree.OpenAppend)},
		{"create", open("new2", tree.OpenWrite|tree.OpenCreate|tree.OpenExclusive)},
		{"create or truncate a new file", open("new3", tree.OpenWrite|tree.OpenCreate|tree.OpenTruncate)},
		{"truncate an empty file", open("empty", tree.OpenWrite|tree.OpenTruncate)},
		{"truncate a partial", open(partial, tree.OpenWrite|tree.OpenTruncate)},
		{"truncate a file", open("full", tree.OpenWrite|tree.OpenTruncate)},
		{"truncate a file through a symlink", open("link", tree.OpenWrite|tree.OpenTruncate)},
		{"truncate an open file", file("full", tree.OpenWrite, func(c ctx, f tree.File) error { return f.SetAttr(c, size(1)) })},
		{"extend an open file", file("full", tree.OpenWrite, func(c ctx, f tree.File) error { return f.SetAttr(c, size(9)) })},
		{"chmod an open file", file("full", tree.OpenRead, func(c ctx, f tree.File) error { return f.SetAttr(c, perm(0o600)) })},
		{"shrink by name", func(c ctx, s *ses) error { return s.SetAttr(c, "full", size(1)) }},
		{"extend by name", func(c ctx, s *ses) error { return s.SetAttr(c, "full", size(20)) }},
		{"chmod", func(c ctx, s *ses) error { return s.SetAttr(c, "full", perm(0o600)) }},
		{"mkdir", func(c ctx, s *ses) error { return s.Mkdir(c, "new4", 0o755) }},
		{"symlink", func(c ctx, s *ses) error { return s.Symlink(c, "x", "new5") }},
		{"symlink that looks like a partial", func(c ctx, s *ses) error { return s.Symlink(c, "full", tree.Path(".transfer-1"+partial[11:])) }},
		{"link", func(c ctx, s *ses) error { return s.Link(c, "full", "new6") }},
		{"link that looks like a partial", func(c ctx, s *ses) error { return s.Link(c, "full", tree.Path(".transfer-2"+partial[11:])) }},
		{"upload", upload(tree.Upload{Path: "new7", Origin: "o"})},
		{"upload over a file", upload(tree.Upload{Path: "full", Origin: "o"})},
		{"upload in place", upload(tree.Upload{Path: "full", Origin: "o", InPlace: true})},
		{"rename", func(c ctx, s *ses) error { return s.Rename(c, "empty", "new8", tree.RenameReplace) }},
		{"rename onto a file", func(c ctx, s *ses) error { return s.Rename(c, "new8", "full", tree.RenameReplace) }},
		{"rename to what looks like a partial", func(c ctx, s *ses) error {
			return s.Rename(c, "full", tree.Path(".transfer-3"+partial[11:]), tree.RenameNoReplace)
		}},
		{"rename a partial", func(c ctx, s *ses) error { return s.Rename(c, partial, "new9", tree.RenameReplace) }},
		{"remove a partial", func(c ctx, s *ses) error {
			if err := fill(c, s, partial, ""); err != nil {
				return err
			}
			return s.Remove(c, partial)
		}},
		{"remove a directory", func(c ctx, s *ses) error { return s.Remove(c, "dir") }},
		{"remove", func(c ctx, s *ses) error { return s.Remove(c, "link") }},
		{"list a part", func(c ctx, s *ses) error {
			t, err := s.Sub(c, tree.Root)
			if err != nil {
				return err
			}
			_, err = t.Stat(c, tree.Root)
			return errors.Join(err, t.Close())
		}},
		{"remove in a part", func(c ctx, s *ses) error {
			t, err := s.Sub(c, tree.Root)
			if err != nil {
				return err
			}
			return errors.Join(t.Remove(c, "missing"), t.Close())
		}},
	}
}

func TestPermissions(t *testing.T) {
	list := []string{"stat", "lstat", "list", "statfs", "statfs in a part", "list a part"}
	read := []string{
		"open", "open to read", "open for nothing", "get", "get in a part", "sum", "sum in a part", "read xattrs", "read xattrs in a part",
	}
	write := []string{
		"open to write", "open to append", "create", "create or truncate a new file", "truncate an empty file",
		"truncate a partial", "extend an open file", "extend by name", "chmod", "mkdir", "symlink", "link", "link in a part", "upload", "rename",
		"rename a partial", "remove a partial", "put", "put in a part", "set xattrs",
	}
	remove := []string{"remove a directory", "remove", "remove in a part"}
	both := []string{
		"truncate a file", "truncate a file through a symlink", "truncate an open file", "shrink by name",
		"upload over a file", "upload in place", "rename onto a file", "rename to what looks like a partial",
		"symlink that looks like a partial", "link that looks like a partial",
		"put over a file", "put over a symlink", "put in place",
	}
	readWrite := []string{"open to read and create", "chmod an open file"}
	for _, tt := range []struct {
		names []string
		may   [][]string
	}{
		{nil, nil},
		{[]string{"list"}, [][]string{list}},
		{[]string{"read"}, [][]string{read}},
		{[]string{"write"}, [][]string{write}},
		{[]string{"delete"}, [][]string{remove}},
		{[]string{"list", "read"}, [][]string{list, read}},
		{[]string{"list", "read", "write"}, [][]string{list, read, write, readWrite}},
		{[]string{"write", "delete"}, [][]string{write, remove, both}},
		{[]string{"list", "read", "write", "delete"}, [][]string{list, read, write, readWrite, remove, both}},
	} {
		t.Run(strings.Join(tt.names, ","), func(t *testing.T) {
			p, err := session.ParsePermissions(tt.names)
			if err != nil {
				t.Fatal(err)
			}
			s := session.New(fixture(t), session.Login{Permissions: p})
			may := slices.Concat(tt.may...)
			for _, try := range tries() {
				err := try.do(t.Context(), s)
				if got, want := !errors.Is(err, fs.ErrPermission), slices.Contains(may, try.name); got != want {
					t.Errorf("%s: allowed = %v (%v), want %v", try.name, got, err, want)
				}
			}
		})
	}
}

// Who may not delete leaves everything as it was that was there.
func TestWithoutDeleteNothingIsLost(t *testing.T) {
	below := fixture(t)
	s := session.New(below, session.Login{Permissions: session.List | session.Read | session.Write})
	for _, try := range tries() {
		if try.name == "extend by name" || try.name == "extend an open file" {
			continue
		}
		_ = try.do(t.Context(), s) // most are denied
	}
	r, err := below.Open(t.Context(), "full")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	got := make([]byte, 5)
	if n, _ := r.ReadAt(got, 0); string(got[:n]) != "data" {
		t.Errorf("the file holds %q, want %q", got[:n], "data")
	}
}

func TestParsePermissions(t *testing.T) {
	for _, tt := range []struct {
		names []string
		want  session.Permissions
		text  string
		bad   bool
	}{
		{nil, 0, "none", false},
		{[]string{"list", "read"}, session.List | session.Read, "list,read", false},
		{[]string{"delete", "write", "read", "list", "list"}, session.All, "list,read,write,delete", false},
		{[]string{"Read"}, 0, "none", true},
		{[]string{"read", "all"}, 0, "none", true},
	} {
		got, err := session.ParsePermissions(tt.names)
		if got != tt.want || got.String() != tt.text || (err != nil) != tt.bad {
			t.Errorf("ParsePermissions(%q) = %v, %v, want %v", tt.names, got, err, tt.text)
		}
	}
}

// plain hides everything of a tree but that it is an FS.
type plain struct{ tree.FS }

func TestWhatTheTreeBeneathCannot(t *testing.T) {
	s := session.New(plain{openStore(t)}, session.Login{Permissions: session.All})
	_, err := s.Begin(t.Context(), tree.Upload{Path: "x"})
	_, err2 := s.Sub(t.Context(), tree.Root)
	_, err3 := s.Sum(t.Context(), "x")
	_, err4 := s.Put(t.Context(), tree.Small{Path: "x"})
	_, err5 := s.Get(t.Context(), "x", 1)
	_, err6 := s.Xattrs(t.Context(), "x")
	for _, err := range []error{err, err2, err3, err4, err5, err6} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("error %v, want %v", err, errors.ErrUnsupported)
		}
	}
	put, err := s.PutLimit(t.Context())
	get, err2 := s.GetLimit(t.Context())
	if put != 0 || get != 0 || err != nil || err2 != nil {
		t.Errorf("limits of a tree without small files: %d, %v and %d, %v", put, err, get, err2)
	}
}
