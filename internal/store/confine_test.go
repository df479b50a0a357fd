//go:build linux

package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// jail makes root/ beside a secret, and symlinks in root that lead out.
func jail(t *testing.T) (s *Store, outside string) {
	t.Helper()
	top := t.TempDir()
	outside = filepath.Join(top, "outside")
	root := filepath.Join(top, "root")
	for _, d := range []string{outside, root, filepath.Join(root, "in"), filepath.Join(root, "in", "deep")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, outside, "secret", []byte("secret"))
	writeFile(t, filepath.Join(root, "in"), "file", []byte("inside"))
	for name, target := range map[string]string{
		"up": "..", "far": "../outside", "abs": outside, "absfile": filepath.Join(outside, "secret"), "file": "../outside/secret",
		"in/deep/up3": "../../../outside", "in/deep/ok": "../file", "chain": "far", "dangling": "../outside/new", "absin": filepath.Join(root, "in"),
		"in/back": "..", "dotted": "in/../in/./file",
	} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeStore(t, s) })
	return s, outside
}

// untouched fails unless outside is as jail made it.
func untouched(t *testing.T, outside string) {
	t.Helper()
	files := readDir(t, outside)
	if len(files) != 1 || string(files["secret"]) != "secret" {
		t.Errorf("outside the root there is now %v", sortedKeys(files))
	}
	info, err := os.Stat(filepath.Join(outside, "secret"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file outside has mode %v, %v", info.Mode(), err)
	}
}

// everything returns each way to do something to p.
func everyWay(t *testing.T, s *Store, p tree.Path) map[string]error {
	t.Helper()
	ctx := t.Context()
	errs := map[string]error{}
	_, errs["Stat"] = s.Stat(ctx, p)
	_, errs["Open"] = s.Open(ctx, p)
	_, errs["Sum"] = s.Sum(ctx, p)
	_, errs["StatFS"] = s.StatFS(ctx, p)
	_, errs["Sub"] = s.Sub(ctx, p)
	for _, err := range s.List(ctx, p) {
		errs["List"] = err
	}
	_, errs["OpenFile"] = s.OpenFile(ctx, p, tree.OpenWrite|tree.OpenCreate|tree.OpenTruncate, 0o644)
	return errs
}

func TestConfinement(t *testing.T) {
	for _, openat2 := range []bool{true, false} {
		s, outside := jail(t)
		if !openat2 {
			lacking(s, "openat2")
		}
		for _, p := range []tree.Path{
			"far/secret", "abs/secret", "absfile", "file", "up/outside/secret", "in/deep/up3/secret", "chain/secret", "in/deep/up3",
			"dangling", "absin/file", "absin", "far", "..", "../outside/secret", "in/back/up/outside/secret",
		} {
			for what, err := range everyWay(t, s, p) {
				if err == nil {
					t.Errorf("%s(%q) leads out of the root", what, p)
				}
			}
		}
		perm := tree.Perm(0o666)
		inner := tree.Path("far/new")
		for what, err := range map[string]error{
			"Mkdir":   s.Mkdir(t.Context(), inner, 0o755),
			"Symlink": s.Symlink(t.Context(), "x", inner),
			"Rename":  s.Rename(t.Context(), "in/file", inner, tree.RenameReplace),
			"Rename2": s.Rename(t.Context(), "far/secret", "stolen", tree.RenameReplace),
			"Link":    s.Link(t.Context(), "far/secret", "stolen"),
			"Link2":   s.Link(t.Context(), "in/file", inner),
			"Remove":  s.Remove(t.Context(), "far/secret"),
			"SetAttr": s.SetAttr(t.Context(), "far/secret", tree.Attr{Perm: &perm}),
			"Begin":   beginErr(t, s, inner),
			"chmod":   s.SetAttr(t.Context(), "file", tree.Attr{Perm: &perm}),
		} {
			if err == nil {
				t.Errorf("%s reaches out of the root", what)
			}
		}
		for _, p := range []tree.Path{"in/deep/ok", "in/back/in/file", "dotted"} {
			if got := treetest.Get(t, s, p); string(got) != "inside" {
				t.Errorf("Get(%q) = %q, want what a symlink inside leads to", p, got)
			}
		}
		if _, err := s.Stat(t.Context(), "file"); !errors.Is(err, tree.ErrEscape) {
			t.Errorf("Stat of an escaping symlink = %v, want ErrEscape", err)
		}
		if _, err := s.Stat(t.Context(), "far/secret"); !errors.Is(err, tree.ErrEscape) || strings.Contains(err.Error(), outside) {
			t.Errorf("Stat through an escaping symlink = %v, want ErrEscape that does not tell where", err)
		}
		// An upload to a symlink replaces it.
		treetest.Put(t, s, "file", []byte("mine"))
		if e, err := s.Lstat(t.Context(), "file"); err != nil || e.Kind != tree.KindFile {
			t.Errorf("Lstat after an upload onto a symlink = %v, %v", e.Kind, err)
		}
		untouched(t, outside)
	}
}

func beginErr(t *testing.T, s *Store, p tree.Path) error {
	t.Helper()
	w, err := s.Begin(t.Context(), treetest.Upload(p, []byte("x")))
	if err == nil {
		_ = w.Abort(t.Context())
	}
	return err
}

// TestSymlinkRace swaps a directory and a symlink that leads out while
// everything is done below it.
func TestSymlinkRace(t *testing.T) {
	for _, openat2 := range []bool{true, false} {
		s, outside := jail(t)
		if !openat2 {
			lacking(s, "openat2")
		}
		root := filepath.Join(filepath.Dir(outside), "root")
		writeFile(t, filepath.Join(root, "in"), "secret", []byte("decoy"))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			in, link, aside := filepath.Join(root, "in"), filepath.Join(root, "far"), filepath.Join(root, "aside")
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = os.Rename(in, aside)
				_ = os.Rename(link, in)
				_ = os.Rename(in, link)
				_ = os.Rename(aside, in)
			}
		})
		perm := tree.Perm(0o666)
		ctx := t.Context()
		for i := range 400 {
			if r, err := s.Open(ctx, "in/secret"); err == nil {
				buf := make([]byte, 6)
				if n, _ := r.ReadAt(buf, 0); string(buf[:n]) == "secret" {
					t.Fatal("Open read the file outside")
				}
				_ = r.Close()
			}
			if f, err := s.OpenFile(ctx, "in/secret", tree.OpenWrite, 0); err == nil {
				_, _ = f.WriteAt([]byte("decoy"), 0)
				_ = f.Close()
			}
			_ = s.SetAttr(ctx, "in/secret", tree.Attr{Perm: &perm})
			_ = s.Mkdir(ctx, "in/made", 0o755)
			_ = s.Remove(ctx, "in/made")
			_ = s.Symlink(ctx, "x", "in/sym")
			_ = s.Link(ctx, "in/file", "in/hard")
			_ = s.Rename(ctx, "in/hard", "in/harder", tree.RenameReplace)
			_ = s.Remove(ctx, "in/harder")
			_ = s.Remove(ctx, "in/sym")
			for _, err := range s.List(ctx, "in") {
				_ = err
			}
			if i%10 == 0 {
				if w, err := s.Begin(ctx, treetest.Upload("in/up", []byte("up"))); err == nil {
					_ = w.WriteChunk(ctx, treetest.Chunks([]byte("up"))[0])
					_, _ = w.Commit(ctx, treetest.FinalOf([]byte("up")))
				}
			}
		}
		close(stop)
		wg.Wait()
		untouched(t, outside)
	}
}

// TestErrPathEscapes holds the text by which explain knows what package os
// does not export.
func TestErrPathEscapes(t *testing.T) {
	r, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if _, err = r.Open("../x"); !errors.Is(explain(err), tree.ErrEscape) {
		t.Errorf("explain(%v) = %v, want ErrEscape", err, explain(err))
	}
}

// TestPlantedPartial: a partial that somebody else may have put there is not
// written to.
func TestPlantedPartial(t *testing.T) {
	data := treetest.Data(1, 2*mib)
	stem := tree.PartialName("test machine:/source/f", "f")
	for name, plant := range map[string]func(path, victim string) error{
		"symlink":   func(path, victim string) error { return os.Symlink(victim, path) },
		"hard link": func(path, victim string) error { return os.Link(victim, path) },
		"open to all": func(path, _ string) error {
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				return err
			}
			return os.Chmod(path, 0o666)
		},
		"fifo": func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
	} {
		for _, suffix := range []string{".part", ".journal"} {
			t.Run(name+suffix, func(t *testing.T) {
				s, path := openTemp(t, Options{})
				victim := filepath.Join(path, "victim")
				writeFile(t, path, "victim", []byte("victim"))
				if err := plant(filepath.Join(path, stem+suffix), victim); err != nil {
					t.Fatal(err)
				}
				treetest.Put(t, s, "f", data)
				if got := readDir(t, path); string(got["victim"]) != "victim" || len(got) != 2 || string(got["f"]) != string(data) {
					t.Errorf("afterwards there is %v, the victim holds %q", sortedKeys(got), got["victim"])
				}
			})
		}
	}
}
