//go:build unix

package sftp

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"transferd/internal/tree"
)

// oneLock are journals whose only lock all users share.
type oneLock struct {
	journals
	mu *sync.Mutex
}

func (l oneLock) Lock(context.Context, string) (func(), error) {
	l.mu.Lock()
	return l.mu.Unlock, nil
}

func TestRunsOfOneSmallUploadDoNotMeet(t *testing.T) {
	dir := t.TempDir()
	u := tree.Upload{Path: diskPath(t, filepath.Join(dir, "f")), Origin: "here:/data", Size: 5, ChunkSize: mib}
	j := oneLock{journals{t.TempDir()}, new(sync.Mutex)}
	one := newTestClient(t, stock(t), ClientOptions{Journals: j})
	two := newTestClient(t, stock(t), ClientOptions{Journals: j})

	first, err := one.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	began := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		second, err := two.Begin(t.Context(), u)
		close(began)
		if err != nil {
			t.Error(err)
			return
		}
		if err := second.Abort(t.Context()); err != nil {
			t.Error(err)
		}
	})
	data := []byte("whole")
	v := tree.ChunkValue(data, 0, mib, true)
	if err := first.WriteChunk(t.Context(), tree.Chunk{Data: data, Value: v}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-began:
		t.Error("a second run began before the first had ended")
	default:
	}
	perm := tree.Perm(0o600)
	if _, err := first.Commit(t.Context(), tree.Final{Size: 5, Values: []tree.Value{v}, Attr: tree.Attr{Perm: &perm}}); err != nil {
		t.Error(err)
	}
	group.Wait()
	if got, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(got) != "whole" {
		t.Errorf("the file is %q, %v", got, err)
	}
}
