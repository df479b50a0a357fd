//go:build linux

package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

func TestFullDisk(t *testing.T) {
	for _, errno := range []struct {
		err  error
		want error
	}{{unix.ENOSPC, tree.ErrNoSpace}, {unix.EDQUOT, tree.ErrQuota}} {
		s, path := openTemp(t, Options{})
		var full atomic.Bool
		s.hub.sys.write = func(f *os.File, p []byte, off int64) (int, error) {
			if full.Load() && strings.HasSuffix(f.Name(), ".part") {
				n, _ := f.WriteAt(p[:len(p)/2], off)
				return n, &fs.PathError{Op: "write", Path: path, Err: errno.err}
			}
			return f.WriteAt(p, off)
		}
		data := treetest.Data(1, 4*mib)
		chunks := treetest.Chunks(data)
		w := started(t, s, data)
		writeChunks(t, w, chunks[0], chunks[2])
		full.Store(true)
		err := w.WriteChunk(t.Context(), chunks[1])
		if !errors.Is(err, errno.want) || strings.Contains(err.Error(), path) {
			t.Errorf("WriteChunk on a full disk = %v, want %v without the root's path", err, errno.want)
		}
		if err := w.Suspend(t.Context()); err != nil {
			t.Errorf("Suspend on a full disk = %v", err)
		}
		full.Store(false)
		w = started(t, s, data)
		if got := indexes(w); len(got) != 2 {
			t.Errorf("Have after a full disk = %v, want chunks 0 and 2", got)
		}
		if err := w.Recheck(t.Context(), func(i int64) { t.Errorf("chunk %d is bad", i) }); err != nil {
			t.Fatal(err)
		}
		writeChunks(t, w, chunks[1], chunks[3])
		if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFullDiskIsNamed(t *testing.T) {
	s := Host(Options{})
	s.hub.sys.write = func(*os.File, []byte, int64) (int, error) { return 0, unix.ENOSPC }
	p, err := HostPath(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("small")
	w, err := s.Begin(t.Context(), treetest.Upload(p, data))
	if err != nil {
		t.Fatal(err)
	}
	err = w.WriteChunk(t.Context(), treetest.Chunks(data)[0])
	d, derr := openHostDir("/" + p.Parent().String())
	if derr != nil {
		t.Fatal(derr)
	}
	defer func() { _ = d.Close() }()
	id, _ := d.id()
	if mount := mountPoint(id.dev); mount == "" || !strings.HasSuffix(err.Error(), ": "+mount) {
		t.Errorf("WriteChunk on a full disk = %v, want it to name %q", err, mount)
	}
	if err := w.Suspend(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestLostWrite: after a failed fsync nothing of that batch is on record, and
// nothing later is taken.
func TestLostWrite(t *testing.T) {
	s, _ := openTemp(t, Options{})
	data := treetest.Data(1, 4*mib)
	chunks := treetest.Chunks(data)
	w := started(t, s, data).(*writer)
	writeChunks(t, w, chunks[0])
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	datasync := s.hub.sys.datasync
	s.hub.sys.datasync = func(*os.File) error { return unix.EIO }
	writeChunks(t, w, chunks[1])
	if err := w.flush(); !errors.Is(err, unix.EIO) {
		t.Errorf("flush = %v, want EIO", err)
	}
	s.hub.sys.datasync = datasync // the next fsync says all is well: a lie
	if err := w.WriteChunk(t.Context(), chunks[2]); !errors.Is(err, unix.EIO) {
		t.Errorf("WriteChunk after a lost write = %v, want EIO", err)
	}
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); !errors.Is(err, unix.EIO) {
		t.Errorf("Commit after a lost write = %v, want EIO", err)
	}
	again := started(t, s, data)
	if got := indexes(again); len(got) != 1 || got[0] != 0 {
		t.Errorf("Have after a lost write = %v, want only chunk 0", got)
	}
	if err := again.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestBadChunk: a chunk that rotted on the disk is found and sent again, the
// good ones stay.
func TestBadChunk(t *testing.T) {
	s, path := openTemp(t, Options{})
	data := treetest.Data(1, 4*mib)
	chunks := treetest.Chunks(data)
	w := started(t, s, data)
	writeChunks(t, w, chunks...)
	if err := w.Suspend(t.Context()); err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(path, tree.PartialName("test machine:/source/f", "f")+".part")
	rot := func(at int64) {
		t.Helper()
		f, err := os.OpenFile(part, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte("rot"), at); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	rot(2*mib + 5)

	// A caller that never asks must not publish it either.
	w = started(t, s, data)
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); !errors.Is(err, tree.ErrIntegrity) {
		t.Errorf("Commit of a bad partial = %v, want ErrIntegrity", err)
	}
	w = started(t, s, data)
	if got := indexes(w); len(got) != 3 {
		t.Errorf("Have = %v, want all but the bad chunk 2", got)
	}
	rot(mib)
	var bad []int64
	if err := w.Recheck(t.Context(), func(i int64) { bad = append(bad, i) }); err != nil {
		t.Fatal(err)
	}
	if len(bad) != 1 || bad[0] != 1 {
		t.Errorf("Recheck finds %v bad, want chunk 1", bad)
	}
	writeChunks(t, w, chunks[1], chunks[2])
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
		t.Fatal(err)
	}
	if got := treetest.Get(t, s, "f"); string(got) != string(data) {
		t.Error("the file is wrong")
	}
}

// TestVerifyFull: what the disk did to the bytes behind our back is seen.
func TestVerifyFull(t *testing.T) {
	s, path := openTemp(t, Options{})
	data := treetest.Data(1, 4*mib)
	s.hub.sys.write = func(f *os.File, p []byte, off int64) (int, error) {
		if off == 2*mib && strings.HasSuffix(f.Name(), ".part") {
			p = append([]byte("flip"), p[4:]...)
		}
		return f.WriteAt(p, off)
	}
	u := treetest.Upload("f", data)
	u.Verify = tree.VerifyFull
	w, err := s.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	writeChunks(t, w, treetest.Chunks(data)...)
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); !errors.Is(err, tree.ErrIntegrity) {
		t.Errorf("Commit = %v, want ErrIntegrity", err)
	}
	if _, err := os.Lstat(filepath.Join(path, "f")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that reads back wrong has its final name: %v", err)
	}
	s.hub.sys.write = (*os.File).WriteAt
	w, err = s.Begin(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	if got := indexes(w); len(got) != 3 {
		t.Errorf("Have = %v, want all but chunk 2", got)
	}
	writeChunks(t, w, treetest.Chunks(data)[2])
	if _, err := w.Commit(t.Context(), treetest.FinalOf(data)); err != nil {
		t.Fatal(err)
	}
}

// TestCommitRefuses: a file that is not what the source has is not published.
func TestCommitRefuses(t *testing.T) {
	data := treetest.Data(1, 3*mib)
	other := treetest.Data(2, 3*mib)
	for _, test := range []struct {
		name  string
		write []int64
		final func() tree.Final
	}{
		{"missing chunk", []int64{0, 2}, func() tree.Final { return treetest.FinalOf(data) }},
		{"missing chunk called a hole", []int64{0, 2}, func() tree.Final {
			f := treetest.FinalOf(data)
			f.Values[1], f.HasDigest = tree.Value{}, false
			return f
		}},
		{"other values", []int64{0, 1, 2}, func() tree.Final { return treetest.FinalOf(other) }},
		{"other digest", []int64{0, 1, 2}, func() tree.Final {
			f := treetest.FinalOf(data)
			f.Digest[0]++
			return f
		}},
		{"other size", []int64{0, 1, 2}, func() tree.Final { return treetest.FinalOf(data[:2*mib]) }},
		{"too few values", []int64{0, 1, 2}, func() tree.Final {
			f := treetest.FinalOf(data)
			f.Values = f.Values[:2]
			return f
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, path := openTemp(t, Options{})
			w := started(t, s, data)
			for _, i := range test.write {
				writeChunks(t, w, treetest.Chunks(data)[i])
			}
			if _, err := w.Commit(t.Context(), test.final()); err == nil {
				t.Error("Commit = nil")
			}
			if _, err := os.Lstat(filepath.Join(path, "f")); err == nil {
				t.Error("the file was published")
			}
		})
	}
}

func TestWriteChunkRefuses(t *testing.T) {
	s, _ := openTemp(t, Options{})
	data := treetest.Data(1, 2*mib+5)
	good := treetest.Chunks(data)
	w := started(t, s, data)
	for _, c := range []tree.Chunk{
		{Index: -1, Data: good[0].Data, Value: good[0].Value},
		{Index: 3, Data: good[0].Data, Value: good[0].Value},
		{Index: 1 << 60, Data: good[0].Data, Value: good[0].Value},
		{Index: 0, Data: good[0].Data[:5], Value: good[0].Value},
		{Index: 2, Data: good[0].Data, Value: good[0].Value},
		{Index: 0, Data: good[0].Data},
	} {
		if err := w.WriteChunk(t.Context(), c); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("WriteChunk(%d, %d bytes) = %v, want ErrInvalid", c.Index, len(c.Data), err)
		}
	}
	if err := w.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteChunk(t.Context(), good[0]); !errors.Is(err, tree.ErrClosed) {
		t.Errorf("WriteChunk after Abort = %v, want ErrClosed", err)
	}
}
