package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"transferd/internal/testnet"
	"transferd/internal/tree"
)

// mib is a chunk of the smallest size.
const mib = 1 << 20

// send writes the chunks of data that want lists, all of them if it is nil.
func send(t *testing.T, w tree.Writer, data []byte, want ...int64) error {
	t.Helper()
	values := valuesOf(data)
	for i, v := range values {
		if want != nil && !slices.Contains(want, int64(i)) {
			continue
		}
		x := tree.ChunkExtent(int64(i), int64(len(data)), mib)
		if err := w.WriteChunk(t.Context(), tree.Chunk{Index: int64(i), Data: data[x.Offset:x.End()], Value: v}); err != nil {
			return err
		}
	}
	return nil
}

func valuesOf(data []byte) []tree.Value {
	values := make([]tree.Value, tree.ChunkCount(int64(len(data)), mib))
	for i := range values {
		x := tree.ChunkExtent(int64(i), int64(len(data)), mib)
		values[i] = tree.ChunkValue(data[x.Offset:x.End()], int64(i), mib, len(values) == 1)
	}
	return values
}

func finalOf(data []byte) tree.Final {
	perm, when := tree.Perm(0o640), time.Unix(1_700_000_000, 5)
	return tree.Final{Size: int64(len(data)), Values: valuesOf(data), Attr: tree.Attr{Perm: &perm, Mtime: &when}}
}

func haveOf(w tree.Writer) []int64 {
	return slices.Sorted(maps.Keys(maps.Collect(w.Have())))
}

func begin(t *testing.T, s tree.Sink, u tree.Upload) tree.Writer {
	t.Helper()
	w, err := s.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// holds fails the test unless file name holds data and nothing of ours is
// beside it.
func holds(t *testing.T, name string, data []byte) {
	t.Helper()
	got, err := os.ReadFile(name)
	if err != nil || string(got) != string(data) {
		t.Errorf("%s: other bytes than were sent (%d of %d), %v", name, len(got), len(data), err)
	}
	entries, err := os.ReadDir(filepath.Dir(name))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if tree.IsPartialName(e.Name()) {
			t.Errorf("%s is left over", e.Name())
		}
	}
}

func TestUploadSizes(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		dir := t.TempDir()
		c := mustClient(t, dial, ClientOptions{Journals: journals{t.TempDir()}})
		defer closeClient(t, c)
		sub, err := c.Sub(t.Context(), diskPath(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{0, 1, 32 << 10, 32<<10 + 1, mib - 1, mib, mib + 1, 9*mib + 77} {
			for _, verify := range []tree.Verify{tree.VerifyFast, tree.VerifyFull} {
				for _, s := range []tree.Sink{c, sub} {
					data := random(size)
					u := tree.Upload{Path: "f", Size: int64(size), ChunkSize: mib, Origin: "here", Resume: true, Verify: verify}
					if s == tree.Sink(c) {
						u.Path = diskPath(t, filepath.Join(dir, "f"))
					}
					w := begin(t, s, u)
					if err := send(t, w, data); err != nil {
						t.Fatal(err)
					}
					receipt, err := w.Commit(t.Context(), finalOf(data))
					if err != nil {
						t.Fatalf("commit of %d bytes: %v", size, err)
					}
					want := map[tree.Verify]tree.Verified{tree.VerifyFast: tree.VerifiedSampled, tree.VerifyFull: tree.VerifiedFull}[verify]
					if receipt.Verified != want {
						t.Errorf("Receipt of %d bytes = %+v, want %s", size, receipt, want)
					}
					holds(t, filepath.Join(dir, "f"), data)
				}
			}
		}
		info, err := os.Stat(filepath.Join(dir, "f"))
		if err != nil || info.Mode() != 0o640 || info.ModTime().Unix() != 1_700_000_000 {
			t.Errorf("attributes: %v, %v", info, err)
		}
	})
}

func TestResume(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		dir, kept := t.TempDir(), journals{t.TempDir()}
		name, data := filepath.Join(dir, "f"), random(9*mib+5)
		u := tree.Upload{Path: diskPath(t, name), Size: int64(len(data)), ChunkSize: mib, Origin: "here", Resume: true, Source: tree.Identity{Mtime: 1}}
		c := mustClient(t, dial, ClientOptions{Journals: kept})
		defer closeClient(t, c)

		w := begin(t, c, u)
		if err := send(t, w, data, 0, 3, 9); err != nil {
			t.Fatal(err)
		}
		if err := w.Suspend(t.Context()); err != nil {
			t.Fatal(err)
		}
		w = begin(t, c, u)
		if diff := cmp.Diff([]int64{0, 3, 9}, haveOf(w)); diff != "" || !w.Unchanged() {
			t.Errorf("after Suspend: unchanged %v, Have (-want +got):\n%s", w.Unchanged(), diff)
		}
		if err := w.Suspend(t.Context()); err != nil {
			t.Fatal(err)
		}

		// What is cut off the partial is not durable any more; the rest is.
		part := onlyPartial(t, dir)
		if err := os.Truncate(part, 5*mib); err != nil {
			t.Fatal(err)
		}
		flip(t, part, 3*mib+7)
		u.Source.Mtime = 2
		w = begin(t, c, u)
		if diff := cmp.Diff([]int64{0, 3}, haveOf(w)); diff != "" || w.Unchanged() {
			t.Errorf("after the cut: unchanged %v, Have (-want +got):\n%s", w.Unchanged(), diff)
		}
		var bad []int64
		if err := w.Recheck(t.Context(), func(i int64) { bad = append(bad, i) }); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]int64{3}, bad); diff != "" {
			t.Errorf("Recheck (-want +got):\n%s", diff)
		}
		if err := send(t, w, data, 1, 2, 3, 4, 5, 6, 7, 8, 9); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(t.Context(), finalOf(data)); err != nil {
			t.Fatal(err)
		}
		holds(t, name, data)
		if left, _ := os.ReadDir(kept.dir); len(left) > 0 {
			t.Errorf("journals left over: %v", left)
		}
	})
}

func onlyPartial(t *testing.T, dir string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".transfer-*.part"))
	if err != nil || len(found) != 1 {
		t.Fatalf("partials: %v, %v", found, err)
	}
	info, err := os.Stat(found[0])
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the partial is %v, %v", info.Mode(), err)
	}
	return found[0]
}

func flip(t *testing.T, name string, off int64) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

func TestNoResumeBeginsAnew(t *testing.T) {
	dir, data := t.TempDir(), random(3*mib)
	c := newTestClient(t, stock(t), ClientOptions{Journals: journals{t.TempDir()}})
	u := tree.Upload{Path: diskPath(t, filepath.Join(dir, "f")), Size: int64(len(data)), ChunkSize: mib, Resume: true}
	w := begin(t, c, u)
	if err := send(t, w, data, 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, resume := range []bool{false, true} {
		u.Resume = resume
		w = begin(t, c, u)
		if got := haveOf(w); len(got) > 0 {
			t.Errorf("Have = %v after a Begin that throws away", got)
		}
		if err := w.Suspend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w = begin(t, c, u)
	if err := w.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left after Abort: %v", left)
	}
}

func TestFullVerifyFindsWhatTheServerChanged(t *testing.T) {
	dir, data := t.TempDir(), random(3*mib)
	c := newTestClient(t, stock(t), ClientOptions{Journals: journals{t.TempDir()}})
	u := tree.Upload{Path: diskPath(t, filepath.Join(dir, "f")), Size: int64(len(data)), ChunkSize: mib, Resume: true, Verify: tree.VerifyFull}
	w := begin(t, c, u)
	if err := send(t, w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.(*upload).settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	flip(t, onlyPartial(t, dir), 2*mib-1)
	if _, err := w.Commit(t.Context(), finalOf(data)); !errors.Is(err, tree.ErrIntegrity) {
		t.Fatalf("Commit = %v, want ErrIntegrity", err)
	}
	w = begin(t, c, u)
	if diff := cmp.Diff([]int64{0, 2}, haveOf(w)); diff != "" {
		t.Errorf("Have (-want +got):\n%s", diff)
	}
	if err := send(t, w, data, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), finalOf(data)); err != nil {
		t.Fatal(err)
	}
	holds(t, filepath.Join(dir, "f"), data)
}

func TestHoles(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		dir := t.TempDir()
		name := filepath.Join(dir, "f")
		data := make([]byte, 64*mib)
		copy(data[5*mib+1000:], random(5000))
		c := mustClient(t, dial, ClientOptions{Journals: journals{t.TempDir()}})
		defer closeClient(t, c)
		u := tree.Upload{Path: diskPath(t, name), Size: int64(len(data)), ChunkSize: mib, Sparse: true, Resume: true}
		chunk := tree.Chunk{
			Index: 5, Data: data[5*mib : 6*mib], Value: tree.ChunkValue(data[5*mib:6*mib], 5, mib, false),
			Extents: []tree.Extent{{Offset: 5*mib + 512, Length: 8192}},
		}
		for range 2 { // the second time it is written over what was suspended
			w := begin(t, c, u)
			if err := w.WriteChunk(t.Context(), chunk); err != nil {
				t.Fatal(err)
			}
			if err := w.Suspend(t.Context()); err != nil {
				t.Fatal(err)
			}
			flip(t, onlyPartial(t, dir), 5*mib+3) // in the hole
		}
		w := begin(t, c, u)
		var bad []int64
		if err := w.Recheck(t.Context(), func(i int64) { bad = append(bad, i) }); err != nil || !slices.Equal(bad, []int64{5}) {
			t.Fatalf("Recheck found %v, %v", bad, err)
		}
		if err := w.WriteChunk(t.Context(), chunk); err != nil {
			t.Fatal(err)
		}
		f := finalOf(data)
		for i := range f.Values {
			if i != 5 {
				f.Values[i] = tree.Value{}
			}
		}
		if _, err := w.Commit(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		holds(t, name, data)
		if used := blocks(t, name); used > 2*mib {
			t.Errorf("a file of 64 MiB with 5000 bytes of data takes %d bytes", used)
		}
	})
}

func TestTargets(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		dir, data := t.TempDir(), random(3*mib)
		c := mustClient(t, dial, ClientOptions{Journals: journals{t.TempDir()}})
		defer closeClient(t, c)
		at := func(name string) tree.Path { return diskPath(t, filepath.Join(dir, name)) }
		upload := func(s tree.Sink, u tree.Upload, data []byte) error {
			u.Size, u.ChunkSize = int64(len(data)), mib
			w, err := s.Begin(t.Context(), u)
			if err != nil {
				return err
			}
			if err := send(t, w, data); err != nil {
				return errors.Join(err, w.Suspend(t.Context()))
			}
			_, err = w.Commit(t.Context(), finalOf(data))
			return err
		}
		for _, size := range []int{100, 3 * mib} {
			data := data[:size]
			if err := upload(c, tree.Upload{Path: at("f")}, data); err != nil {
				t.Fatal(err)
			}
			if err := upload(c, tree.Upload{Path: at("f"), NoReplace: true}, data[1:]); !errors.Is(err, fs.ErrExist) {
				t.Errorf("NoReplace onto a file: %v", err)
			}
			cleanPartials(t, dir)
			holds(t, filepath.Join(dir, "f"), data)

			// A symlink that was typed is followed, one in a tree is replaced.
			_ = os.Remove(filepath.Join(dir, "l"))
			if err := os.Symlink("f", filepath.Join(dir, "l")); err != nil {
				t.Fatal(err)
			}
			if err := upload(c, tree.Upload{Path: at("l")}, data[2:]); err != nil {
				t.Fatal(err)
			}
			holds(t, filepath.Join(dir, "f"), data[2:])
			sub, err := c.Sub(t.Context(), diskPath(t, dir))
			if err != nil {
				t.Fatal(err)
			}
			if err := upload(sub, tree.Upload{Path: "l"}, data[3:]); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(filepath.Join(dir, "l")); err != nil || !info.Mode().IsRegular() {
				t.Errorf("the symlink is %v, %v", info, err)
			}
			holds(t, filepath.Join(dir, "f"), data[2:])

			// In place the inode stays, also of a longer file.
			before := inode(t, filepath.Join(dir, "f"))
			if err := upload(c, tree.Upload{Path: at("f"), InPlace: true}, data[:size/2]); err != nil {
				t.Fatal(err)
			}
			holds(t, filepath.Join(dir, "f"), data[:size/2])
			if after := inode(t, filepath.Join(dir, "f")); after != before {
				t.Errorf("in place, but the inode went from %d to %d", before, after)
			}
			for p, want := range map[tree.Path]error{
				at("."): tree.ErrIsDir, at("no/f"): fs.ErrNotExist, diskPath(t, "/dev/null"): nil,
			} {
				if err := upload(c, tree.Upload{Path: p}, data); !errors.Is(err, want) {
					t.Errorf("upload of %d bytes to %s: %v, want %v", size, p, err, want)
				}
			}
		}
		if info, err := os.Stat("/dev/null"); err != nil || info.Mode()&fs.ModeCharDevice == 0 {
			t.Fatalf("/dev/null is now %v, %v", info, err)
		}
	})
}

func cleanPartials(t *testing.T, dir string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".transfer-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFIFOGetsItsBytesInOrder(t *testing.T) {
	name, data := filepath.Join(t.TempDir(), "fifo"), random(3*mib+9)
	makeFIFO(t, name)
	got := make(chan []byte, 1)
	go func() {
		b, _ := os.ReadFile(name)
		got <- b
	}()
	c := newTestClient(t, stock(t), ClientOptions{})
	if err := putFile(t, c, tree.Upload{Path: diskPath(t, name)}, data); err != nil {
		t.Fatal(err)
	}
	if b := <-got; string(b) != string(data) {
		t.Errorf("%d of %d bytes, or others, went through the FIFO", len(b), len(data))
	}
}

func TestFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Fatal(err)
	}
	c := newTestClient(t, stock(t), ClientOptions{User: "me@host:22"})
	err := putFile(t, c, tree.Upload{Path: "dev/full"}, random(3*mib))
	if err == nil || !strings.Contains(err.Error(), "me@host:22:/dev/full") {
		t.Errorf("upload to a full device: %v", err)
	}
}

// TestCutAtEveryPlace cuts the channel after so many bytes of an upload. The
// next client finishes it.
func TestCutAtEveryPlace(t *testing.T) {
	data := random(3*mib + 3)
	for _, after := range []int64{0, 1, 8, 9, 30, 60, 100, 200, 300, 1000, mib / 2, mib, mib + 100, 2*mib + 5000, 3 * mib, 3*mib + 700, 3*mib + 900} {
		for _, end := range []string{"up", "down"} {
			t.Run(fmt.Sprintf("%s %d", end, after), func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
				dir, kept := t.TempDir(), journals{t.TempDir()}
				name := filepath.Join(dir, "f")
				u := tree.Upload{Path: diskPath(t, name), Origin: "o", Resume: true}
				c, err := NewClient(t.Context(), through(stock(t), end, after), ClientOptions{Journals: kept, Lanes: 1})
				if err == nil {
					err = putFile(t, c, u, data)
					closeClient(t, c)
				}
				if err != nil && !errors.Is(err, tree.ErrLost) {
					t.Errorf("a cut became %v, not ErrLost", err)
				}
				c = mustClient(t, stock(t), ClientOptions{Journals: kept})
				defer closeClient(t, c)
				if err := putFile(t, c, u, data); err != nil {
					t.Fatal(err)
				}
				holds(t, name, data)
			})
		}
	}
}

// through puts a network between client and server that is cut.
func through(dial Dialer, end string, after int64) Dialer {
	return func(ctx context.Context) (io.ReadWriteCloser, error) {
		server, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		near, far := testnet.Pipe()
		if end == "up" {
			near.CutAfter(after)
		} else {
			far.CutAfter(after)
		}
		up, down := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(up)
			_, _ = io.Copy(server, far)
			_ = server.Close()
		}()
		go func() {
			defer close(down)
			_, _ = io.Copy(far, server)
			_ = far.Close()
		}()
		return closeThen{near, func() { <-up; <-down }}, nil
	}
}

func TestCancelIsPrompt(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	client, server := pipePair()
	go func() { // greets, and then answers nothing
		r := packetReader{r: server}
		_, _ = r.next()
		_, _ = server.Write([]byte{0, 0, 0, 5, byte(typeVersion), 0, 0, 0, 3})
		_, _ = io.Copy(io.Discard, server)
	}()
	c := mustClient(t, func(context.Context) (io.ReadWriteCloser, error) { return client, nil }, ClientOptions{})
	defer closeClient(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for _, op := range []func() error{
		func() error { _, err := c.Stat(ctx, "a"); return err },
		func() error { return c.Mkdir(ctx, "a", 0o700) },
		func() error { return c.Symlink(ctx, "a", "b") },
		func() error { _, err := c.Open(ctx, "a"); return err },
		func() error { _, err := c.Sub(ctx, "a"); return err },
		func() error { _, err := c.Begin(ctx, tree.Upload{Path: "a", Size: 1}); return err },
		func() error {
			for _, err := range c.List(ctx, "a") {
				return err
			}
			return nil
		},
	} {
		go func() { errs <- op() }()
		defer func() {
			if err := <-errs; !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled operation: %v", err)
			}
		}()
	}
	cancel()
}

func TestInterruptedFlushLosesNoRecord(t *testing.T) {
	dir, data := t.TempDir(), random(3*mib)
	c := newTestClient(t, stock(t), ClientOptions{Journals: journals{t.TempDir()}})
	c.pace.age = time.Hour
	u := tree.Upload{Path: diskPath(t, filepath.Join(dir, "f")), Size: int64(len(data)), ChunkSize: mib, Resume: true}
	w := begin(t, c, u)
	if err := send(t, w, data); err != nil {
		t.Fatal(err)
	}
	if err := w.(*upload).settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.(*upload).flush(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("flush = %v", err)
	}
	if err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	w = begin(t, c, u)
	if diff := cmp.Diff([]int64{0, 1, 2}, haveOf(w)); diff != "" {
		t.Errorf("Have (-want +got):\n%s", diff)
	}
	if err := w.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
}
