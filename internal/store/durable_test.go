//go:build linux

package store

import (
	"errors"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// told collects what Upload.Durable hears.
type told struct {
	mu     sync.Mutex
	chunks []int64
	more   chan struct{} // size 1: chunks has grown
	failed chan error    // size 1: what Upload.Failed hears
}

func (d *told) hear(list []int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.chunks = append(d.chunks, list...)
	signal(d.more)
}

func (d *told) all() []int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sorted(slices.Clone(d.chunks))
}

// listened is started with somebody who listens.
func listened(t *testing.T, s *Store, data []byte) (*writer, *told) {
	t.Helper()
	d := &told{more: make(chan struct{}, 1), failed: make(chan error, 1)}
	u := treetest.Upload("f", data)
	u.Durable, u.Failed = d.hear, func(err error) { d.failed <- err }
	w, err := s.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	return w.(*writer), d
}

// TestDurableInTime: a chunk after which nothing comes is announced a second
// later, and not before.
func TestDurableInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTemp(t, Options{})
		data := treetest.Data(1, 3*mib)
		w, d := listened(t, s, data)
		writeChunks(t, w, treetest.Chunks(data)[1])
		<-time.After(900 * time.Millisecond)
		if got := d.all(); len(got) != 0 {
			t.Errorf("announced at once: %v", got)
		}
		<-time.After(200 * time.Millisecond)
		synctest.Wait()
		if diff := cmp.Diff([]int64{1}, d.all()); diff != "" {
			t.Errorf("announced after a second (-want +got):\n%s", diff)
		}
		if err := w.Abort(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// TestDurableWindow: a peer that sends no more than maxPending before it hears
// of something never has to wait for the clock.
func TestDurableWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTemp(t, Options{})
		const window = 8
		s.hub.tuning.maxPending, s.hub.tuning.batchBytes = window*mib, window*mib/2
		data := make([]byte, 40*mib)
		w, d := listened(t, s, data)
		start := time.Now()
		for n, c := range treetest.Chunks(data) {
			for len(d.all())+window <= n {
				<-d.more
			}
			writeChunks(t, w, c)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("the peer waited %v for its announcements", took)
		}
		if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
			t.Fatal(err)
		}
		if got := d.all(); len(got) != 40 {
			t.Errorf("%d announcements for 40 chunks", len(got))
		}
	})
}

// TestDurableTuning: the real sizes let a peer with the window of the native
// protocol go on.
func TestDurableTuning(t *testing.T) {
	s, _ := openTemp(t, Options{})
	if u := s.hub.tuning; u.batchBytes+tree.MaxChunkSize > u.maxPending || u.batchBytes > 64<<20 || u.batchEvery > time.Second {
		t.Errorf("tuning = %+v: batches of at most 64 MiB, a second, and well below what may be pending", u)
	}
}

// TestNotDurable: after an error of any step nothing of the batch is announced,
// nor anything after it.
func TestNotDurable(t *testing.T) {
	for _, test := range []struct {
		name  string
		first int // chunks announced before the error
		fail  func(s *Store)
	}{
		{"data", 2, func(s *Store) {
			s.hub.sys.datasync = func(f *os.File) error {
				if strings.HasSuffix(f.Name(), partSuffix) {
					return unix.EIO
				}
				return nil
			}
		}},
		{"journal", 2, func(s *Store) {
			s.hub.sys.datasync = func(f *os.File) error {
				if strings.HasSuffix(f.Name(), journalSuffix) {
					return unix.EIO
				}
				return nil
			}
		}},
		{"journal full", 2, func(s *Store) {
			s.hub.sys.write = func(f *os.File, p []byte, off int64) (int, error) {
				if strings.HasSuffix(f.Name(), journalSuffix) {
					return 0, unix.ENOSPC
				}
				return f.WriteAt(p, off)
			}
		}},
		{"directory", 0, func(s *Store) {
			s.hub.sys.syncDir = func(*dir) error { return unix.EIO }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := openTemp(t, Options{})
			s.hub.tuning.batchEvery = time.Hour
			data := treetest.Data(1, 6*mib)
			w, d := listened(t, s, data)
			chunks := treetest.Chunks(data)
			if test.first > 0 {
				writeChunks(t, w, chunks[:test.first]...)
				if err := w.flush(); err != nil {
					t.Fatal(err)
				}
			}
			test.fail(s)
			writeChunks(t, w, chunks[test.first:4]...)
			if err := w.flush(); err == nil {
				t.Error("flush = nil")
			}
			s.hub.sys = systemCalls() // it works again, and that means nothing
			if err := w.WriteChunk(t.Context(), chunks[4]); err == nil {
				t.Error("WriteChunk after a lost batch = nil")
			}
			if err := w.Suspend(t.Context()); err == nil {
				t.Error("Suspend after a lost batch = nil")
			}
			if got := d.all(); len(got) != test.first {
				t.Errorf("announced %v, want %d chunks", got, test.first)
			}
			again := started(t, s, data)
			if got := indexes(again); len(got) < test.first {
				t.Errorf("Have = %v, want the %d chunks that were announced", got, test.first)
			}
			if err := again.Abort(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestALostBatchIsTold: a peer that has sent what it may, and waits, hears that
// nothing will be announced.
func TestALostBatchIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := openTemp(t, Options{})
		s.hub.sys.datasync = func(*os.File) error { return unix.ENOSPC }
		data := treetest.Data(1, 3*mib)
		w, d := listened(t, s, data)
		writeChunks(t, w, treetest.Chunks(data)[1])
		if err := <-d.failed; !errors.Is(err, tree.ErrNoSpace) || len(d.all()) != 0 {
			t.Errorf("told %v, %v; want ErrNoSpace", err, d.all())
		}
		if err := w.Suspend(t.Context()); err == nil {
			t.Error("Suspend after a lost batch = nil")
		}
	})
}

// TestATakenOverUploadIsTold: its peer may have nothing to send by which it
// would hear of it.
func TestATakenOverUploadIsTold(t *testing.T) {
	s, _ := openTemp(t, Options{})
	data := treetest.Data(1, 3*mib)
	w, d := listened(t, s, data)
	writeChunks(t, w, treetest.Chunks(data)[1])
	again := started(t, s, data)
	select {
	case err := <-d.failed:
		if !errors.Is(err, tree.ErrTakenOver) {
			t.Errorf("told %v, want ErrTakenOver", err)
		}
	default:
		t.Error("not told when the next one had begun")
	}
	if got := d.all(); !slices.Equal(got, []int64{1}) {
		t.Errorf("announced %v, want what was on its way", got)
	}
	if err := again.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestRepeatedChunk: a chunk that comes a second time, as it was, is announced
// once more and not written again; a changed one is written.
func TestRepeatedChunk(t *testing.T) {
	s, _ := openTemp(t, Options{})
	s.hub.tuning.batchEvery = time.Hour
	data := treetest.Data(1, 3*mib)
	w, d := listened(t, s, data)
	chunks := treetest.Chunks(data)
	other := treetest.Chunks(treetest.Data(2, 3*mib))
	writeChunks(t, w, other[0], chunks[1])
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	writes := 0
	s.hub.sys.write = func(f *os.File, p []byte, off int64) (int, error) {
		if strings.HasSuffix(f.Name(), partSuffix) {
			writes++
		}
		return f.WriteAt(p, off)
	}
	writeChunks(t, w, chunks[0], chunks[1], chunks[2], chunks[2])
	if writes != 2 {
		t.Errorf("%d writes, want those of the changed chunk and of the new one", writes)
	}
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int64{0, 0, 1, 1, 2, 2}, d.all()); diff != "" {
		t.Errorf("announced (-want +got):\n%s", diff)
	}
}

// TestPutFails: a small file that cannot be written leaves nothing behind, and
// the error says why.
func TestPutFails(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(sys *calls)
		want error
	}{
		{"full disk", func(sys *calls) { sys.writeTemp = func(int, []byte) error { return unix.ENOSPC } }, tree.ErrNoSpace},
		{"quota", func(sys *calls) { sys.writeTemp = func(int, []byte) error { return unix.EDQUOT } }, tree.ErrQuota},
		{"quota at the sync", func(sys *calls) { sys.syncTemp = func(int) error { return unix.EDQUOT } }, tree.ErrQuota},
		{"full directory", func(sys *calls) { sys.linkTemp = func(int, *dir, string) error { return unix.ENOSPC } }, tree.ErrNoSpace},
		{"lost write", func(sys *calls) { sys.syncTemp = func(int) error { return unix.EIO } }, unix.EIO},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, path := openTemp(t, Options{})
			test.fail(&s.hub.sys)
			_, err := s.Put(t.Context(), treetest.Small("f", []byte("data")))
			if !errors.Is(err, test.want) || strings.Contains(err.Error(), path) {
				t.Errorf("Put = %v, want %v without the root's path", err, test.want)
			}
			if files := readDir(t, path); len(files) != 0 {
				t.Errorf("left behind: %v", sortedKeys(files))
			}
		})
	}
}
