//go:build linux

package interop

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// An attack is one use of a hostile path. It returns every reply that may carry
// something from outside.
type attack struct {
	name string
	do   func(t *testing.T, r *rawSFTP, path string) []reply
}

// one is an attack of a single request.
func one(name string, kind byte, fields func(path string) []any) attack {
	return attack{name, func(t *testing.T, r *rawSFTP, path string) []reply {
		t.Helper()
		return []reply{r.must(t, kind, fields(path)...)}
	}}
}

// opening is an attack that opens with flags and does all that can be done with
// the handle.
func opening(flags uint32) attack {
	return attack{fmt.Sprintf("open with flags %#x", flags), func(t *testing.T, r *rawSFTP, path string) []reply {
		t.Helper()
		opened := r.must(t, fxOpen, path, flags, mode7777)
		if opened.kind != fxHandle {
			return []reply{opened}
		}
		h := opened.text(0)
		replies := []reply{
			r.must(t, fxFstat, h), r.must(t, fxRead, h, uint64(0), uint32(64)),
			r.must(t, fxExtended, "fstatvfs@openssh.com", h), r.must(t, fxWrite, h, uint64(3), "hostile"),
		}
		if to := r.open(t, "/deep/taken", fxfRead|fxfWrite|fxfCreate); to != "" {
			replies = append(
				replies,
				r.must(t, fxExtended, "copy-data", h, uint64(0), uint64(0), to, uint64(0)),
				r.must(t, fxExtended, "copy-data", to, uint64(0), uint64(0), h, uint64(0)),
				r.must(t, fxRead, to, uint64(0), uint32(64)), r.must(t, fxClose, to),
			)
		}
		for _, a := range [][]byte{mode7777, timesZero, ownerOne, sizeZero} {
			replies = append(replies, r.must(t, fxFsetstat, h, a))
		}
		return append(replies, r.must(t, fxExtended, "fsync@openssh.com", h), r.must(t, fxClose, h))
	}}
}

// attacks is every operation with a path in every place that takes one.
func attacks() []attack {
	list := []attack{
		opening(fxfRead), opening(fxfWrite), opening(fxfRead | fxfWrite), opening(fxfWrite | fxfCreate),
		opening(fxfWrite | fxfCreate | fxfTrunc), opening(fxfWrite | fxfCreate | fxfExcl),
		opening(fxfWrite | fxfAppend), opening(fxfRead | fxfWrite | fxfCreate | fxfTrunc | fxfAppend),
		{"opendir", func(t *testing.T, r *rawSFTP, path string) []reply {
			t.Helper()
			opened := r.must(t, fxOpendir, path)
			if opened.kind != fxHandle {
				return []reply{opened}
			}
			h := opened.text(0)
			return []reply{r.must(t, fxReaddir, h), r.must(t, fxFstat, h), r.must(t, fxClose, h)}
		}},
	}
	add := func(name string, kind byte, before []any, after ...any) {
		list = append(list, one(name, kind, func(path string) []any {
			return append(append(append([]any{}, before...), path), after...)
		}))
	}
	for name, kind := range map[string]byte{
		"stat": fxStat, "lstat": fxLstat, "remove": fxRemove, "rmdir": fxRmdir, "realpath": fxRealpath, "readlink": fxReadlink,
	} {
		add(name, kind, nil)
	}
	add("mkdir", fxMkdir, nil, mode7777)
	for name, a := range map[string][]byte{"mode": mode7777, "times": timesZero, "owner": ownerOne, "size": sizeZero} {
		add("setstat "+name, fxSetstat, nil, a)
		add("lsetstat "+name, fxExtended, []any{"lsetstat@openssh.com"}, a)
	}
	add("rename from", fxRename, nil, "/deep/taken")
	add("rename to", fxRename, []any{"/plain"})
	add("symlink at", fxSymlink, []any{"target"})
	for _, ext := range []string{"posix-rename@openssh.com", "hardlink@openssh.com"} {
		add(ext+" from", fxExtended, []any{ext}, "/deep/taken")
		add(ext+" to", fxExtended, []any{ext, "/plain"})
		add(ext+" directory to", fxExtended, []any{ext, "/hollow"})
	}
	for _, ext := range []string{"statvfs@openssh.com", "expand-path@openssh.com", "home-directory", "no-such@extension"} {
		add(ext, fxExtended, []any{ext})
	}
	// What was taken is looked at afterwards; a link to outside may be made.
	list = append(list, attack{"through a new link", func(t *testing.T, r *rawSFTP, path string) []reply {
		t.Helper()
		replies := []reply{r.must(t, fxSymlink, path, "/deep/link"), r.must(t, fxStat, "/deep/link")}
		for _, inside := range []string{"/deep/link", "/deep/link/" + canaryName, "/deep/link/new"} {
			if h := r.open(t, inside, fxfRead|fxfWrite|fxfCreate); h != "" {
				replies = append(replies, r.must(t, fxRead, h, uint64(0), uint32(64)), r.must(t, fxWrite, h, uint64(0), "x"), r.must(t, fxClose, h))
			}
		}
		return append(replies, r.must(t, fxRemove, "/deep/link/"+canaryName), r.must(t, fxMkdir, "/deep/link/new", noAttrs))
	}})
	return list
}

// tells reports what replies say of outside.
func tells(replies []reply) string {
	for _, r := range replies {
		switch {
		case r.kind == fxData && (bytes.Contains(r.body, []byte(canaryText)) || bytes.Contains(r.body, []byte("root:x:0"))):
			return "contents"
		case r.kind == fxAttrs && r.uint32(0)&1 != 0 && r.uint32(4) == 0 && r.uint32(8) == canarySize:
			return "attributes"
		case r.kind == fxName && bytes.Contains(r.body, []byte(canaryTell)):
			return "names"
		}
	}
	return ""
}

// refused reports whether nothing came of an attack.
func refused(replies []reply) bool {
	for _, r := range replies {
		if r.status() == 0 {
			return false
		}
	}
	return true
}

func TestNoRequestLeavesTheRoot(t *testing.T) {
	c := newCanary(t)
	d := c.serve(t)
	r := dialRaw(t, d.Login)
	c.plant(t)
	for _, a := range attacks() {
		for _, path := range c.hostilePaths() {
			replies := a.do(t, r, path)
			what := fmt.Sprintf("%s of %q", a.name, path)
			if told := tells(replies); told != "" {
				t.Errorf("%s tells %s of outside", what, told)
			}
			// What an attack moved or linked into the root is as bad.
			if h := r.open(t, "/deep/taken", fxfRead); h != "" {
				if told := tells([]reply{r.must(t, fxRead, h, uint64(0), uint32(64)), r.must(t, fxFstat, h), r.must(t, fxClose, h)}); told != "" {
					t.Errorf("%s took %s into the root", what, told)
				}
			}
			c.untouched(t, what)
			if !refused(replies) {
				c.plant(t)
			}
		}
	}
	if strings.Contains(d.Log(), "panic") {
		t.Errorf("the daemon's log:\n%s", d.Log())
	}
}

// Whether something outside exists must not be seen either.
func TestLinksDoNotTellWhatIsOutside(t *testing.T) {
	c := newCanary(t)
	d := c.serve(t)
	r := dialRaw(t, d.Login)
	// Each first leads to what is there, each second to what is not.
	for _, pair := range [][2]string{
		{filepath.Join(c.out, "secret"), filepath.Join(c.out, "absent")},
		{"../outside/secret", "../outside/absent"},
		{filepath.Join(c.out, "dir"), filepath.Join(c.out, "nope")},
		{"../outside/dir", "../outside/nop"},
	} {
		for _, a := range attacks() {
			var got [2]string
			for i, target := range pair {
				c.plant(t)
				check(t, os.Symlink(target, filepath.Join(c.root, "link")))
				for _, path := range []string{"link", "link/x"} {
					for _, reply := range a.do(t, r, path) {
						if reply.kind == fxStatus {
							got[i] += fmt.Sprintf("%d %s; ", reply.status(), reply.text(4))
						} else {
							got[i] += fmt.Sprintf("type %d; ", reply.kind)
						}
					}
				}
			}
			if got[0] != got[1] {
				t.Errorf("%s tells links to %q apart:\n%s\n%s", a.name, pair, got[0], got[1])
			}
		}
	}
	c.untouched(t, "looking")
}

// raceRounds is how often every attack runs against a name that changes.
const raceRounds = 40

func TestSwappedDirectoryDoesNotLeaveTheRoot(t *testing.T) {
	c := newCanary(t)
	d := c.serve(t)
	c.plant(t)
	dir, link := filepath.Join(c.root, "d"), filepath.Join(c.root, "l")
	check(t, os.Mkdir(dir, 0o755))
	check(t, os.Symlink("../outside/dir", link))

	ctx, cancel := context.WithCancel(t.Context())
	var swapping sync.WaitGroup
	defer swapping.Wait()
	defer cancel()
	swapping.Go(func() {
		for ctx.Err() == nil {
			// The client may have removed or renamed one of them meanwhile.
			if unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) != nil {
				_ = os.Mkdir(dir, 0o755)
				_ = os.Symlink("../outside/dir", link)
			}
		}
	})
	r := dialRaw(t, d.Login)
	for range raceRounds {
		for _, a := range attacks() {
			for _, path := range []string{"d", "d/" + canaryName, "d/new"} {
				if told := tells(a.do(t, r, path)); told != "" {
					t.Errorf("%s of %q tells %s of outside", a.name, path, told)
				}
			}
			for _, name := range []string{"deep/taken", "deep/link", "plain", "hollow"} {
				check(t, os.RemoveAll(filepath.Join(c.root, name)))
			}
			check(t, os.WriteFile(filepath.Join(c.root, "plain"), []byte("inside"), 0o644))
			check(t, os.Mkdir(filepath.Join(c.root, "hollow"), 0o755))
		}
	}
	cancel()
	swapping.Wait()
	c.untouched(t, "a race")
}
