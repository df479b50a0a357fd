package session_test

import (
	"context"
	"errors"
	"testing"

	"transferd/internal/session"
	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// A quota is asked before anything is written, with the size, on every road of
// an upload, and in the parts of a session too.
func TestUploadsAskForRoom(t *testing.T) {
	var asked []int64
	s := session.New(openStore(t), session.Login{
		Permissions: session.All,
		Room: func(_ context.Context, size int64) error {
			asked = append(asked, size)
			if size > 10 {
				return tree.ErrQuota
			}
			return nil
		},
	})
	sub, err := s.Sub(t.Context(), tree.Root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, sink := range []interface {
		tree.Sink
		tree.Putter
	}{s, sub.(interface {
		tree.Sink
		tree.Putter
	})} {
		for _, size := range []int64{10, 11} {
			want := error(nil)
			if size > 10 {
				want = tree.ErrQuota
			}
			data := treetest.Data(1, int(size))
			w, err := sink.Begin(t.Context(), treetest.Upload("file", data))
			if !errors.Is(err, want) {
				t.Errorf("Begin of %d bytes: %v", size, err)
			}
			if err == nil {
				if err := w.Abort(t.Context()); err != nil {
					t.Error(err)
				}
			}
			_, err = sink.Put(t.Context(), tree.Small{
				Path: "file", Data: data, Digest: tree.Digest(tree.ChunkValue(data, 0, tree.MinChunkSize, true)), Origin: "m/file",
			})
			if !errors.Is(err, want) {
				t.Errorf("Put of %d bytes: %v", size, err)
			}
		}
	}
	if len(asked) != 8 {
		t.Errorf("asked for %v", asked)
	}
}
