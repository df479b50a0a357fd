package transfer

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

// namesIn lists all files and empty directories below dir.
func namesIn(t *testing.T, dir string) []string {
	t.Helper()
	list := []string{}
	all := snapshot(t, dir, time.Second)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		info, err := os.Lstat(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if !info.IsDir() {
			list = append(list, path)
			continue
		}
		inside, err := os.ReadDir(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if len(inside) == 0 && path != "." {
			list = append(list, path+"/")
		}
	}
	return list
}

// sourceTree makes f, g and the directory d below dir.
func sourceTree(t *testing.T, dir string) {
	t.Helper()
	write(t, dir, "f", []byte("file"))
	write(t, dir, "g", []byte("other"))
	write(t, dir, "d/x", []byte("in d"))
	write(t, dir, "d/sub/y", []byte("deep"))
	write(t, dir, "e/d/z", []byte("another d"))
	if err := os.Mkdir(filepath.Join(dir, "d", "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestWhereACopyLands(t *testing.T) {
	atD := []string{"D/empty/", "D/sub/y", "D/x"}
	inD := []string{"D/d/empty/", "D/d/sub/y", "D/d/x"}
	exact := func(o *Options) { o.NoTargetDir = true }
	flat := func(o *Options) { o.Recursive = false }
	for _, tt := range []struct {
		name  string
		there []string // files and, with "/", directories of the destination
		args  []string
		set   func(*Options)
		want  []string
		err   error
		usage bool // the error is a UsageError
		nests bool // a second run does
	}{
		{name: "file to a new name", args: []string{"f", "new"}, want: []string{"new"}},
		{name: "file to a file", there: []string{"old"}, args: []string{"f", "old"}, want: []string{"old"}},
		{name: "file to a directory", there: []string{"D/"}, args: []string{"f", "D"}, want: []string{"D/f"}},
		{name: "file to a directory with slash", there: []string{"D/"}, args: []string{"f", "D/"}, want: []string{"D/f"}},
		{name: "file to a new directory with slash", args: []string{"f", "D/"}, want: []string{"D/f"}},
		{name: "file to a file with slash", there: []string{"old"}, args: []string{"f", "old/"}, want: []string{"old"}, err: tree.ErrNotDir},
		{name: "file to a directory, exactly", there: []string{"D/"}, args: []string{"f", "D"}, set: exact, want: []string{"D/"}, err: tree.ErrIsDir},
		{name: "file into nothing", args: []string{"f", "no/such"}, err: fs.ErrNotExist},
		{name: "no such file", args: []string{"no", "new"}, err: fs.ErrNotExist},
		{name: "files to a directory", there: []string{"D/"}, args: []string{"f", "g", "D"}, want: []string{"D/f", "D/g"}},
		{name: "files to a new directory", args: []string{"f", "g", "D/"}, want: []string{"D/f", "D/g"}},
		{name: "files to a new name", args: []string{"f", "g", "D"}, err: fs.ErrNotExist},
		{name: "files to a file", there: []string{"old"}, args: []string{"f", "g", "old"}, want: []string{"old"}, err: tree.ErrNotDir},
		{name: "files, exactly", there: []string{"D/"}, args: []string{"f", "g", "D"}, set: exact, want: []string{"D/"}, usage: true},
		{name: "one file twice", there: []string{"D/"}, args: []string{"f", "f", "D"}, want: []string{"D/f"}, usage: true},
		{name: "one of many is missing", there: []string{"D/"}, args: []string{"f", "no", "g", "D"}, want: []string{"D/f", "D/g"}, err: fs.ErrNotExist},
		{
			name: "many files to a directory", there: []string{"D/f", "D/old"},
			args: []string{"f", "g", "d/x", "d/sub/y", "e/d/z", "no1", "no2", "no3", "D"},
			want: []string{"D/f", "D/g", "D/old", "D/x", "D/y", "D/z"}, err: fs.ErrNotExist,
		},
		{name: "directory without -r", args: []string{"d", "D"}, set: flat, usage: true},
		{name: "directory to a new name", args: []string{"d", "D"}, want: atD, nests: true},
		{name: "directory with slash to a new name", args: []string{"d/", "D"}, want: atD, nests: true},
		{name: "directory to a directory", there: []string{"D/"}, args: []string{"d", "D"}, want: inD},
		{name: "directory with slash to a directory", there: []string{"D/"}, args: []string{"d/", "D"}, want: inD},
		{name: "directory to a new name with slash", args: []string{"d", "D/"}, want: inD},
		{name: "directory to a new name with slash, exactly", args: []string{"d", "D/"}, set: exact, want: atD},
		{name: "directory to a directory, exactly", there: []string{"D/old"}, args: []string{"d", "D"}, set: exact, want: []string{"D/empty/", "D/old", "D/sub/y", "D/x"}},
		{name: "directory to a new name, exactly", args: []string{"d", "D"}, set: exact, want: atD},
		{name: "directory to a file", there: []string{"D"}, args: []string{"d", "D"}, want: []string{"D"}, err: tree.ErrNotDir},
		{name: "directory to a file, exactly", there: []string{"D"}, args: []string{"d", "D"}, set: exact, want: []string{"D"}, err: tree.ErrNotDir},
		{name: "directory into nothing", args: []string{"d", "no/such"}, err: fs.ErrNotExist},
		{name: "contents to a directory", there: []string{"D/"}, args: []string{"d/.", "D"}, want: atD},
		{name: "contents to a new name", args: []string{"d/.", "D"}, want: atD},
		{name: "contents to a new name with slash", args: []string{"d/.", "D/"}, want: atD},
		{name: "contents from below", args: []string{"d/sub/..", "D/"}, want: atD},
		{name: "everything", there: []string{"D/"}, args: []string{".", "D/"}, want: []string{"D/d/empty/", "D/d/sub/y", "D/d/x", "D/e/d/z", "D/f", "D/g"}},
		{name: "file where the directory should go", there: []string{"D/d"}, args: []string{"d", "D"}, want: []string{"D/d"}, err: tree.ErrNotDir},
		{name: "merge into an existing copy", there: []string{"D/d/old"}, args: []string{"d", "D"}, want: []string{"D/d/empty/", "D/d/old", "D/d/sub/y", "D/d/x"}},
		{name: "two directories of one name", there: []string{"D/"}, args: []string{"d", "e/d", "D"}, want: inD, usage: true},
		{name: "file and directory", there: []string{"D/"}, args: []string{"f", "d", "D"}, want: append(slices.Clone(inD), "D/f")},
	} {
		check := func(t *testing.T, what string, err error) {
			t.Helper()
			switch {
			case tt.usage && errors.As(err, new(*UsageError)), tt.err != nil && errors.Is(err, tt.err):
			case err != nil || tt.usage || tt.err != nil:
				t.Errorf("%s %q = %v, want %v, usage error %v", what, tt.args, err, tt.err, tt.usage)
			}
		}
		for _, mode := range []string{"local", "upload", "download"} {
			t.Run(tt.name+", "+mode, func(t *testing.T) {
				b := newBench(t).remote(mode == "download", mode == "upload")
				sourceTree(t, b.src)
				for _, path := range tt.there {
					if path[len(path)-1] == '/' {
						if err := os.MkdirAll(filepath.Join(b.dst, path), 0o755); err != nil {
							t.Fatal(err)
						}
						continue
					}
					write(t, b.dst, path, []byte("there"))
				}
				o := options()
				if tt.set != nil {
					tt.set(&o)
				}
				before := snapshot(t, b.dst, time.Nanosecond)
				dry := o
				dry.DryRun = true
				_, err := b.copy(t.Context(), dry, tt.args...)
				check(t, "dry run of", err)
				if diff := cmp.Diff(before, snapshot(t, b.dst, time.Nanosecond)); diff != "" {
					t.Fatalf("a dry run changed something (-before +after):\n%s", diff)
				}
				_, err = b.copy(t.Context(), o, tt.args...)
				check(t, "copy", err)
				want := tt.want
				if want == nil {
					want = []string{}
				}
				if diff := cmp.Diff(want, namesIn(t, b.dst)); diff != "" {
					t.Errorf("names (-want +got):\n%s", diff)
				}
				if tt.err != nil || tt.usage {
					return
				}
				// A second run sends nothing, unless it nests as it does in scp.
				b.heal()
				if sum := b.must(o, tt.args...); sum.Files != 0 && !tt.nests {
					t.Errorf("a second run copied %d files, want none", sum.Files)
				}
			})
		}
	}
}
