package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckKeysFile(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"root/sub", "keys", "other"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(base, "keys/k"), "")
	write(t, filepath.Join(base, "root/k"), "")
	for link, target := range map[string]string{
		"root/out":   "../keys",            // in the root, leads out: whoever writes the root can turn it
		"other/in":   base + "/root",       // outside, leads in
		"other/file": "../root/k",          // a relative one to a file
		"other/ok":   base + "/keys/k",     // from one place outside to another
		"rootlink":   base + "/root",       // the root by another name
		"other/loop": base + "/other/loop", // endless
	} {
		if err := os.Symlink(target, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, file, root, permissions string
		want                          string // "": allowed
	}{
		{"outside", "keys/k", "root", "write", ""},
		{"below", "root/k", "root", "write", "lies below"},
		{"below, not there yet", "root/sub/new", "root", "write", "lies below"},
		{"below, only delete", "root/k", "root", "list,delete", "lies below"},
		{"below, only read", "root/k", "root", "list,read", ""},
		{"root by another name", "root/k", "rootlink", "write", "lies below"},
		{"through a link inside", "root/out/k", "root", "write", "lies below"},
		{"through a link outside", "other/in/k", "root", "write", "lies below"},
		{"link to a file inside", "other/file", "root", "write", "lies below"},
		{"link between other places", "other/ok", "root", "write", ""},
		{"dots out of the root", "root/sub/../../keys/k", "root", "write", "lies below"},
		{"dots beside the root", "keys/../keys/k", "root", "write", ""},
		{"name that begins alike", "root2", "root", "write", ""},
		{"root of everything", "keys/k", "/", "write", "lies below"},
		{"endless", "other/loop", "root", "write", "too many symlinks"},
		{"no such root", "keys/k", "none", "write", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := base + "/" + test.root
			if test.root == "/" {
				root = "/"
			}
			user := User{Name: "a", Root: root, Permissions: strings.Split(test.permissions, ",")}
			err := checkKeysFile(base+"/"+test.file, []User{{Name: "other", Root: base + "/other"}, user})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("checkKeysFile(%s) below %s = %v, want %q", test.file, test.root, err, test.want)
			}
		})
	}
}
