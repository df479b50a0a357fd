//go:build linux

package interop

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	canaryText = "CANARY-CONTENTS"
	canaryName = "canary-in-there"
	canaryTell = "canary-beside-it" // no request ever names it
	canarySize = 31337              // no other file of the test has it
)

// A canary is a tree beside a root that nothing below the root may lead to.
type canary struct {
	parent string // holds root and outside
	root   string
	out    string
	before []string
}

// newCanary makes the tree and an empty root beside it.
func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{parent: t.TempDir()}
	c.root, c.out = filepath.Join(c.parent, "root"), filepath.Join(c.parent, "outside")
	for _, dir := range []string{c.root, c.out, filepath.Join(c.out, "dir"), filepath.Join(c.out, "empty")} {
		check(t, os.Mkdir(dir, 0o755))
	}
	text := strings.Repeat(canaryText+"\n", canarySize/len(canaryText))[:canarySize]
	for _, name := range []string{"secret", "dir/" + canaryName, "dir/" + canaryTell} {
		check(t, os.WriteFile(filepath.Join(c.out, name), []byte(text), 0o644))
	}
	c.before = c.look(t)
	return c
}

// serve starts a daemon on the root.
func (c *canary) serve(t *testing.T) *daemon {
	t.Helper()
	return startOn(t, c.root)
}

// look describes everything beside the root: kinds, modes, owners, links, sizes,
// contents, and the times at which it was changed.
func (c *canary) look(t *testing.T) []string {
	t.Helper()
	var lines []string
	check(t, filepath.WalkDir(c.parent, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if path == c.root {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("no stat of %s", path)
		}
		line := fmt.Sprintf("%s %v %d:%d links %d changed %v modified %v", path, info.Mode(), st.Uid, st.Gid, st.Nlink, st.Ctim, st.Mtim)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %d bytes %q", len(data), bytes.TrimRight(data[:20], "\n"))
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

// untouched fails the test if anything beside the root has changed.
func (c *canary) untouched(t *testing.T, by string) {
	t.Helper()
	after := c.look(t)
	if diff := cmp.Diff(c.before, after); diff != "" {
		t.Errorf("%s changed what is outside of the root (-before +after):\n%s", by, diff)
		c.before = after
	}
}

// plant fills the root afresh: with a file, a directory, and every kind of link
// that leads out.
func (c *canary) plant(t *testing.T) {
	t.Helper()
	names, err := os.ReadDir(c.root)
	check(t, err)
	for _, n := range names {
		check(t, os.RemoveAll(filepath.Join(c.root, n.Name())))
	}
	check(t, os.MkdirAll(filepath.Join(c.root, "deep", "er"), 0o755))
	check(t, os.Mkdir(filepath.Join(c.root, "hollow"), 0o755))
	for _, name := range []string{"plain", "deep/plain"} {
		check(t, os.WriteFile(filepath.Join(c.root, name), []byte("inside"), 0o644))
	}
	for name, target := range map[string]string{
		"abs":       filepath.Join(c.out, "secret"),
		"rel":       "../outside/secret",
		"absdir":    filepath.Join(c.out, "dir"),
		"reldir":    "../outside/dir",
		"absnew":    filepath.Join(c.out, "new"),
		"relnew":    "../outside/new",
		"reldirnew": "../outside/dir/new",
		"deep/rel":  "../../outside/secret",
		"deep/up":   "../..",
		"chain":     "deep/up/outside/dir",
		"chain2":    "chain",
		"up":        "..",
		"top":       "/",
		"proc":      "/proc/self/root",
		"cwd":       "/proc/self/cwd",
		"loop":      "loop",
	} {
		check(t, os.Symlink(target, filepath.Join(c.root, name)))
	}
}

// hostilePaths leads out of a planted root, or tries to.
func (c *canary) hostilePaths() []string {
	secret := filepath.Join(c.out, "secret")
	return []string{
		"..", "/..", "../", "/../outside/secret", "../outside/secret", "../outside/dir", "../outside/dir/" + canaryName,
		"../outside/new", "../outside/empty", "deep/../../outside/secret", "deep/er/../../../outside/new",
		strings.Repeat("../", 60) + strings.TrimPrefix(secret, "/"), secret, "/" + secret, c.out + "/dir", c.out + "/new",
		".//..//./outside/secret", "hollow/../../outside", "..\\outside\\secret", "..\x00/outside/secret", "%2e%2e/outside/secret",
		"abs", "abs/", "abs/.", "abs/..", "rel", "rel/", "deep/rel", "deep/rel/", "deep/up", "deep/up/", "deep/up/outside/secret",
		"absdir", "absdir/", "absdir/.", "absdir/..", "absdir/" + canaryName, "absdir/new", "absdir/../secret", "absdir/../empty",
		"reldir", "reldir/", "reldir/.", "reldir/..", "reldir/" + canaryName, "reldir/new", "reldir/../secret", "reldir/../empty",
		"absnew", "absnew/", "relnew", "relnew/", "relnew/x", "reldirnew",
		"chain", "chain/", "chain/" + canaryName, "chain/new", "chain2", "chain2/" + canaryName, "chain2/new",
		"up", "up/", "up/outside/secret", "up/outside/new", "up/outside/dir/" + canaryName, "up/root/plain", "up/root/up/outside/secret",
		"top", "top/", "top/etc/passwd", "top" + secret, "top" + c.out + "/new",
		"proc", "proc/", "proc" + secret, "proc/etc/passwd", "proc" + c.out + "/new", "cwd", "cwd/", "cwd/new",
		"loop", "loop/", "loop/x",
	}
}
