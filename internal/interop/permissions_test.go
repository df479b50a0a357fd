//go:build linux

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A deed is something that a user may or may not do in a fresh tree, which has
// a file "file", an empty directory "dir" and a link "link" to the file.
type deed struct {
	name  string
	needs []string // permissions, all of them
	do    func(t *testing.T, r *rawSFTP) uint32
}

// deeds is what the configuration's permissions speak of.
func deeds() []deed {
	var list []deed
	asks := func(name string, needs []string, kind byte, fields ...any) {
		list = append(list, deed{name, needs, func(t *testing.T, r *rawSFTP) uint32 {
			t.Helper()
			return r.must(t, kind, fields...).status()
		}})
	}
	look, read, write := []string{"list"}, []string{"read"}, []string{"write"}
	lose := []string{"delete"}
	over := []string{"write", "delete"}
	ext := func(name string) string { return name + "@openssh.com" }

	asks("stat", look, fxStat, "/file")
	asks("lstat", look, fxLstat, "/link")
	asks("readlink", look, fxReadlink, "/link")
	asks("list", look, fxOpendir, "/")
	asks("space", look, fxExtended, ext("statvfs"), "/")
	asks("read", read, fxOpen, "/file", uint32(fxfRead), noAttrs)
	asks("write into", write, fxOpen, "/file", uint32(fxfWrite), noAttrs)
	asks("append", write, fxOpen, "/file", uint32(fxfWrite|fxfAppend), noAttrs)
	asks("create", write, fxOpen, "/new", uint32(fxfWrite|fxfCreate|fxfExcl), noAttrs)
	asks("create or truncate a new one", write, fxOpen, "/new", uint32(fxfWrite|fxfCreate|fxfTrunc), noAttrs)
	asks("truncate at open", over, fxOpen, "/file", uint32(fxfWrite|fxfCreate|fxfTrunc), noAttrs)
	asks("read and write", []string{"read", "write"}, fxOpen, "/file", uint32(fxfRead|fxfWrite), noAttrs)
	asks("read and create", []string{"read", "write"}, fxOpen, "/new", uint32(fxfRead|fxfCreate), noAttrs)
	asks("mode", write, fxSetstat, "/file", mode7777)
	asks("times", write, fxSetstat, "/file", timesZero)
	asks("times of a link", write, fxExtended, ext("lsetstat"), "/link", timesZero)
	asks("truncate", over, fxSetstat, "/file", sizeZero)
	asks("mkdir", write, fxMkdir, "/new", noAttrs)
	asks("symlink", write, fxSymlink, "/file", "/new")
	asks("hard link", write, fxExtended, ext("hardlink"), "/file", "/new")
	asks("rename", write, fxRename, "/file", "/new")
	asks("rename anew", write, fxExtended, ext("posix-rename"), "/file", "/new")
	asks("replace by rename", over, fxExtended, ext("posix-rename"), "/file", "/other")
	asks("replace itself by rename", over, fxExtended, ext("posix-rename"), "/link", "/file")
	asks("remove", lose, fxRemove, "/file")
	asks("remove a link", lose, fxRemove, "/link")
	asks("rmdir", lose, fxRmdir, "/dir")
	return append(list, deed{"truncate an open file", over, func(t *testing.T, r *rawSFTP) uint32 {
		t.Helper()
		got := r.must(t, fxOpen, "/file", uint32(fxfWrite), noAttrs)
		if got.kind != fxHandle {
			return got.status()
		}
		return r.must(t, fxFsetstat, got.text(0), sizeZero).status()
	}})
}

func TestPermissionsOfUsers(t *testing.T) {
	users := []daemonUser{
		{"full", ""},
		{"reader", "list, read"},
		{"looker", "list"},
		{"keeper", "list, read, write"},
		{"dropper", "write"},
		{"blind", "read"},
		{"nobody", "delete"},
	}
	has := map[string][]string{
		"full": {"list", "read", "write", "delete"}, "reader": {"list", "read"}, "looker": {"list"},
		"keeper": {"list", "read", "write"}, "dropper": {"write"}, "blind": {"read"}, "nobody": {"delete"},
	}
	d := startConfigured(t, users, "")
	for _, u := range users {
		t.Run(u.name, func(t *testing.T) {
			conn := dialSSH(t, d.as(u.name))
			for _, deed := range deeds() {
				plantPlain(t, d.Root)
				before := describeAll(t, d.Root)
				r := rawOn(t, conn)
				code := deed.do(t, r)
				allowed := !slices.ContainsFunc(deed.needs, func(p string) bool { return !slices.Contains(has[u.name], p) })
				switch {
				case allowed && code != 0:
					t.Errorf("%s ended with status %d, but %s may", deed.name, code, u.name)
				case !allowed && code != statusDenied:
					t.Errorf("%s ended with status %d, want %d", deed.name, code, statusDenied)
				case !allowed:
					if diff := cmp.Diff(before, describeAll(t, d.Root)); diff != "" {
						t.Errorf("%s was denied and has changed (-before +after):\n%s", deed.name, diff)
					}
				}
				check(t, r.in.Close())
			}
		})
	}
}

func plantPlain(t *testing.T, root string) {
	t.Helper()
	names, err := os.ReadDir(root)
	check(t, err)
	for _, n := range names {
		check(t, os.RemoveAll(filepath.Join(root, n.Name())))
	}
	check(t, os.WriteFile(filepath.Join(root, "file"), []byte("contents"), 0o644))
	check(t, os.WriteFile(filepath.Join(root, "other"), []byte("others"), 0o644))
	check(t, os.Mkdir(filepath.Join(root, "dir"), 0o755))
	check(t, os.Symlink("file", filepath.Join(root, "link")))
}

// describeAll is the state of root in every detail, by way of a canary's eyes.
func describeAll(t *testing.T, root string) []string {
	t.Helper()
	c := canary{parent: root}
	return c.look(t)
}

// What the permissions mean for someone who copies.
func TestCopiesOfUsersWithFewRights(t *testing.T) {
	d := startConfigured(t, []daemonUser{{"reader", "list, read"}, {"keeper", "list, read, write"}, {"looker", "list"}}, "")
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	writeRandom(t, src, 3<<20)
	writeRandom(t, filepath.Join(d.Root, "there"), 1<<20)
	old := digest(t, filepath.Join(d.Root, "there"))
	for i, test := range []struct {
		user string
		code int
		verb string
		args func(c client) []string
	}{
		{"reader", 0, "copy", func(c client) []string { return []string{c.remote("/there"), dir + "/"} }},
		{"reader", 5, "copy", func(c client) []string { return []string{src, c.remote("/new")} }},
		{"reader", 5, "rm", func(c client) []string { return []string{c.remote("/there")} }},
		{"reader", 5, "mkdir", func(c client) []string { return []string{c.remote("/d")} }},
		{"reader", 5, "mv", func(c client) []string { return []string{c.remote("/there"), c.remote("/else")} }},
		{"looker", 0, "ls", func(c client) []string { return []string{c.remote("/")} }},
		{"looker", 5, "cat", func(c client) []string { return []string{c.remote("/there")} }},
		{"looker", 5, "copy", func(c client) []string { return []string{c.remote("/there"), filepath.Join(dir, "got")} }},
		{"keeper", 0, "copy", func(c client) []string { return []string{src, c.remote("/kept")} }},
		{"keeper", 5, "copy", func(c client) []string { return []string{src, c.remote("/there")} }},
		{"keeper", 5, "rm", func(c client) []string { return []string{c.remote("/kept")} }},
	} {
		c := newClient(t, d.as(test.user))
		var says []string
		if test.code != 0 {
			says = []string{"permission denied", "hint: "}
		}
		t.Run(fmt.Sprintf("%d %s %s", i, test.user, test.verb), func(t *testing.T) {
			wantOutcome(t, c.command(t.Context(), test.verb, test.args(c)...), test.code, says...)
		})
	}
	sameFile(t, filepath.Join(d.Root, "kept"), src)
	if digest(t, filepath.Join(d.Root, "there")) != old {
		t.Error("a user without delete has changed a file")
	}
	left, err := filepath.Glob(filepath.Join(d.Root, ".transfer-*"))
	check(t, err)
	if len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}
