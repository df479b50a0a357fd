package store

import (
	"testing"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// openTemp returns a confined Store of an empty directory, and that directory.
func openTemp(t *testing.T, o Options) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return s, dir
}

func hostSub(t *testing.T) *Store {
	t.Helper()
	host := Host(Options{StateDir: t.TempDir()})
	p, err := HostPath(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sub, err := host.Sub(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sub.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return sub.(*Store)
}

func TestConformance(t *testing.T) {
	t.Run("Open", func(t *testing.T) {
		treetest.Run(t, func(t *testing.T) tree.Sink {
			s, _ := openTemp(t, Options{StateDir: t.TempDir()})
			return s
		})
	})
	t.Run("Sub", func(t *testing.T) {
		treetest.Run(t, func(t *testing.T) tree.Sink { return hostSub(t) })
	})
}

func TestConformanceFS(t *testing.T) {
	treetest.RunFS(t, func(t *testing.T) tree.FS {
		s, _ := openTemp(t, Options{})
		return s
	})
}
