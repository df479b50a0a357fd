package daemon

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"transferd/auth"
	"transferd/config"
	"transferd/internal/sshd"
	"transferd/internal/tree"
)

func TestStoresShareARootAndCloseIt(t *testing.T) {
	root := t.TempDir()
	s := newStores(t.TempDir(), slog.New(slog.DiscardHandler))
	first, releaseFirst, err := s.acquire(root)
	if err != nil {
		t.Fatal(err)
	}
	second, releaseSecond, err := s.acquire(root)
	if err != nil {
		t.Fatal(err)
	}
	if first != second {
		t.Error("one root was opened twice")
	}
	if err := errors.Join(releaseFirst(), releaseFirst()); err != nil { // twice counts once
		t.Error(err)
	}
	if _, err := second.Stat(t.Context(), tree.Root); err != nil {
		t.Errorf("the root was closed although it is in use: %v", err)
	}
	if err := releaseSecond(); err != nil {
		t.Error(err)
	}
	if len(s.roots) != 0 {
		t.Errorf("%d roots stay open", len(s.roots))
	}
	if _, _, err := s.acquire(filepath.Join(root, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing root: %v", err)
	}
	if len(s.roots) != 0 {
		t.Errorf("%d roots stay after a failure", len(s.roots))
	}
	if _, release, err := s.acquire(root); err != nil {
		t.Errorf("the root again: %v", err)
	} else if err := release(); err != nil {
		t.Error(err)
	}
}

func TestAccounts(t *testing.T) {
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	write(t, keys, "")
	c := config.Server{
		StateDir: t.TempDir(),
		Users: []config.User{
			{Name: "alice", Root: dir, AuthorizedKeysFile: keys, Permissions: []string{"list"}},
			{Name: "bob", Root: dir, AuthorizedKeys: []string{"nonsense"}, Permissions: []string{"read"}},
		},
	}
	var log strings.Builder
	a, err := newAccounts(t.Context(), c, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "user=bob problems=\"authorized_keys:1: ") {
		t.Errorf("bob's bad key is not in the log: %s", log.String())
	}
	for _, name := range []string{"alice", "bob"} {
		if _, err := a.Keys(t.Context(), name); err != nil {
			t.Errorf("Keys(%s) = %v", name, err)
		}
	}
	for _, name := range []string{"", "Alice", "root"} {
		if _, err := a.Keys(t.Context(), name); !errors.Is(err, auth.ErrAuth) {
			t.Errorf("Keys(%q) = %v, want ErrAuth", name, err)
		}
	}
	s, done, err := a.Open(t.Context(), sshd.Login{User: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Login(); got.User != "alice" || got.Permissions.String() != "list" {
		t.Errorf("alice's session is %+v", got)
	}
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, _, err := a.Open(t.Context(), sshd.Login{User: "carol"}); err == nil {
		t.Error("a user who was taken out gets a session")
	}
	c.Users[0].Permissions = []string{"fly"}
	if err := a.set(t.Context(), c); err == nil {
		t.Error("an unknown permission was taken")
	}
}

func TestSweepRemovesExpiredPartials(t *testing.T) {
	root := t.TempDir()
	c := config.Server{
		StateDir: t.TempDir(),
		Users:    []config.User{{Name: "alice", Root: root, Permissions: []string{"write"}}},
		Partials: config.Partials{MaxAge: time.Hour},
	}
	a, err := newAccounts(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	begin(t, a, root)
	a.sweep(t.Context())
	if n := countFiles(t, root); n == 0 {
		t.Fatal("a fresh partial was removed")
	}
	c.Partials.MaxAge = time.Nanosecond
	if err := a.set(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	a.sweep(t.Context())
	if n := countFiles(t, root); n != 0 {
		t.Errorf("%d files of an expired partial stay", n)
	}
}

// begin leaves the partial of an upload in root.
func begin(t *testing.T, a *accounts, root string) {
	t.Helper()
	store, release, err := a.stores.acquire(root)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	w, err := store.Begin(ctx, tree.Upload{
		Path: "x", Size: 2 * tree.MinChunkSize, Origin: "here:/x", ChunkSize: tree.MinChunkSize, Resume: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, tree.MinChunkSize)
	err = w.WriteChunk(ctx, tree.Chunk{Data: data, Value: tree.ChunkValue(data, 0, tree.MinChunkSize, false)})
	if err := errors.Join(err, w.Suspend(ctx), release()); err != nil {
		t.Fatal(err)
	}
}

func countFiles(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
