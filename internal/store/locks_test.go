package store

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"

	"transferd/internal/tree"
)

func TestLocksByName(t *testing.T) {
	dir := t.TempDir()
	one := OpenJournals(dir)
	unlock, err := one.Lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if other, err := one.Lock(t.Context(), "b"); err != nil {
		t.Errorf("Lock of another name = %v", err)
	} else {
		other()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := one.Lock(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("Lock of a held name with an ended context = %v", err)
	}
	if runtime.GOOS == "linux" {
		// Another handle is to the kernel what another process is.
		two := OpenJournals(dir)
		two.(*journals).hub.tuning.lockWait = 1
		if _, err := two.Lock(t.Context(), "a"); !errors.Is(err, tree.ErrBusy) {
			t.Errorf("Lock of a name that another process holds = %v, want ErrBusy", err)
		}
	}
	unlock()
	again, err := one.Lock(t.Context(), "a")
	if err != nil {
		t.Fatalf("Lock after unlock = %v", err)
	}
	again()
}

func TestLocksExclude(t *testing.T) {
	j := OpenJournals(t.TempDir())
	inside, total := 0, 0
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				unlock, err := j.Lock(t.Context(), "x")
				if err != nil {
					t.Error(err)
					return
				}
				inside++ // the race detector looks too
				if inside != 1 {
					t.Error("two hold one lock")
				}
				inside--
				total++
				unlock()
			}
		})
	}
	group.Wait()
	if total != 400 {
		t.Errorf("%d locks were taken, want 400", total)
	}
}
