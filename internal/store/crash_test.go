//go:build linux

package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"transferd/internal/tree"
)

// A fakeDisk knows of one directory what a power cut would leave: it hears of
// every step before it is done, and keeps apart what is durable and what the
// system may still hold in memory.
type fakeDisk struct {
	mu    sync.Mutex
	steps int
	limit int // the power fails before this step; 0: never
	off   bool

	names   map[string]*inode
	temps   map[string]*inode // that have no name yet
	durable map[string]*inode
	changes []func(map[string]*inode) // of names since the last sync, in order
}

type inode struct {
	now, durable []byte
	pending      []func([]byte) []byte // since the last sync, in any order on the disk
	orphan       bool                  // has been given its first name since: recovery may throw it away
}

var errPower = errors.New("the power is gone")

func newFakeDisk(t *testing.T, dir string) *fakeDisk {
	t.Helper()
	d := &fakeDisk{names: map[string]*inode{}, temps: map[string]*inode{}}
	for name, data := range readDir(t, dir) {
		d.names[name] = &inode{now: data, durable: bytes.Clone(data)}
	}
	d.durable = maps.Clone(d.names)
	return d
}

func readDir(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = data
	}
	return files
}

func (d *fakeDisk) hook(s step) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.steps++; d.off || d.steps == d.limit {
		d.off = true
		return errPower
	}
	switch s.op {
	case stepCreate:
		if strings.HasPrefix(s.name, "#") {
			d.temps[s.name] = &inode{}
			return nil
		}
		if d.names[s.name] != nil {
			return nil // O_EXCL will refuse
		}
		n := &inode{}
		d.rename(func(m map[string]*inode) { m[s.name] = n })
	case stepRemove:
		d.rename(func(m map[string]*inode) { delete(m, s.name) })
	case stepRename:
		n := d.names[s.name]
		d.rename(func(m map[string]*inode) {
			delete(m, s.name)
			m[s.to] = n
		})
	case stepLink:
		if n := d.temps[s.name]; d.names[s.to] == nil { // else the system will refuse
			n.orphan = true
			d.rename(func(m map[string]*inode) { m[s.to] = n })
		}
	case stepSyncFS:
		for _, files := range []map[string]*inode{d.names, d.temps} {
			for _, n := range files {
				n.sync()
			}
		}
		d.durable, d.changes = maps.Clone(d.names), nil
	case stepSyncDir:
		d.durable, d.changes = maps.Clone(d.names), nil
	case stepSync:
		d.file(s.name).sync()
	case stepWrite:
		data := bytes.Clone(s.data)
		d.file(s.name).change(func(b []byte) []byte { return patch(b, data, s.off) })
	case stepZero:
		d.names[s.name].change(func(b []byte) []byte {
			if end := min(s.off+s.size, int64(len(b))); end > s.off {
				clear(b[s.off:end])
			}
			return b
		})
	case stepTruncate:
		d.names[s.name].change(func(b []byte) []byte {
			if int64(len(b)) > s.off {
				return b[:s.off]
			}
			return append(b, make([]byte, s.off-int64(len(b)))...)
		})
	}
	return nil
}

func (d *fakeDisk) file(name string) *inode {
	if n := d.temps[name]; n != nil {
		return n
	}
	return d.names[name]
}

func (d *fakeDisk) rename(change func(map[string]*inode)) {
	change(d.names)
	d.changes = append(d.changes, change)
}

func (n *inode) change(c func([]byte) []byte) {
	n.now = c(n.now)
	n.pending = append(n.pending, c)
}

func (n *inode) sync() { n.durable, n.pending, n.orphan = bytes.Clone(n.now), nil, false }

func patch(b, data []byte, off int64) []byte {
	if need := off + int64(len(data)); int64(len(b)) < need {
		b = append(b, make([]byte, need-int64(len(b)))...)
	}
	copy(b[off:], data)
	return b
}

// powerCut returns the files that are there afterwards: of the names a prefix
// of what was not synced, of the bytes any part of it.
func (d *fakeDisk) powerCut(rng *rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := maps.Clone(d.durable)
	for _, c := range d.changes[:rng.IntN(len(d.changes)+1)] {
		c(names)
	}
	files := map[string][]byte{}
	for name, n := range names {
		if n.orphan && rng.IntN(2) == 0 {
			continue
		}
		b := bytes.Clone(n.durable)
		for _, c := range n.pending {
			if rng.IntN(2) == 0 {
				b = c(b)
			}
		}
		files[name] = b
	}
	return files
}

// kill returns the files that are there after a SIGKILL: all that was done.
func (d *fakeDisk) kill(*rand.Rand) map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string][]byte{}
	for name, n := range d.names {
		files[name] = n.now
	}
	return files
}

const crashChunk = 1 << 10

// A crashRun is an upload of data, and what lies there before it.
type crashRun struct {
	name      string
	old       []byte // under the final name
	earlier   []byte // version of the source of which an earlier run left chunks
	data      []byte
	sparse    bool // data is zeros in odd chunks
	noResume  bool
	noReplace bool
	fsync     tree.Fsync
	mayBeBad  bool // chunks on record may be bad: a check of them has to find it
}

func crashRuns() []crashRun {
	whole := testData(1, 6*crashChunk+100)
	changed := bytes.Clone(whole)
	copy(changed[2*crashChunk:], testData(2, 50))
	holes := bytes.Clone(whole)
	clear(holes[crashChunk : 2*crashChunk])
	clear(holes[3*crashChunk : 4*crashChunk])
	old := []byte("the old file")
	return []crashRun{
		{name: "new", data: whole},
		{name: "replace", old: old, data: whole},
		{name: "small", old: old, data: whole[:100]},
		{name: "small new", data: whole[:100]},
		{name: "empty", old: old, data: nil},
		{name: "no replace", data: whole, noReplace: true},
		{name: "resumed", old: old, earlier: whole, data: whole},
		{name: "source changed", old: old, earlier: changed, data: whole},
		{name: "source grew", old: old, earlier: whole[:4*crashChunk+10], data: whole},
		{name: "source shrank", old: old, earlier: whole, data: whole[:4*crashChunk+10]},
		{name: "source shrank to one chunk", old: old, earlier: whole, data: whole[:100]},
		{name: "started over", old: old, earlier: changed, data: whole, noResume: true},
		{name: "sparse", data: holes, sparse: true},
		{name: "sparse over data", earlier: whole, data: holes, sparse: true},
		{name: "not synced", old: old, data: whole, fsync: tree.FsyncOff, mayBeBad: true},
	}
}

func testData(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b) // never fails
	return b
}

// crashStore opens dir with nothing happening by itself.
func crashStore(t *testing.T, path string, disk *fakeDisk) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	s.hub.tuning.batchBytes, s.hub.tuning.batchEvery = 1<<40, 1<<60
	// What is durable the fakeDisk says, not the real one.
	s.hub.sys.datasync = func(*os.File) error { return nil }
	s.hub.sys.sync = s.hub.sys.datasync
	s.hub.sys.syncDir = func(*dir) error { return nil }
	s.hub.sys.syncFS = s.hub.sys.syncDir
	s.hub.sys.syncTemp = func(int) error { return nil }
	if disk != nil {
		s.hub.trace = disk.hook
	}
	return s
}

// A crashReport is what one run saw.
type crashReport struct {
	have    map[int64]tree.Value // kept from an earlier run
	durable map[int64]tree.Value // announced in this one, by Upload.Durable
	bad     int                  // of have
}

// upload runs r to its end, or to where the power fails. A chunk that the
// Writer says it has is not sent; every two chunks are made durable.
func (r crashRun) upload(t *testing.T, s *Store, data []byte, resume bool, upTo int) (rep crashReport, err error) {
	t.Helper()
	sum := testData(9, 1)[0]
	for _, b := range data {
		sum = sum*31 + b
	}
	u := tree.Upload{
		Path: "target", Size: int64(len(data)), Origin: "m:/f", ChunkSize: crashChunk,
		Source: tree.Identity{Size: int64(len(data)), Mtime: int64(sum)},
		Resume: resume, Sparse: r.sparse, NoReplace: r.noReplace, Fsync: r.fsync,
	}
	sent := map[int64]tree.Value{}
	u.Durable = func(chunks []int64) {
		for _, i := range chunks {
			rep.durable[i] = sent[i]
		}
	}
	got, err := s.Begin(t.Context(), u)
	if err != nil {
		return rep, err
	}
	w := got.(*writer)
	f := tree.Final{Size: u.Size}
	rep.have, rep.durable = map[int64]tree.Value{}, map[int64]tree.Value{}
	for i, v := range w.Have() {
		rep.have[i] = v
	}
	have := maps.Clone(rep.have)
	if err := w.Recheck(t.Context(), func(i int64) {
		delete(have, i)
		rep.bad++
	}); err != nil {
		return rep, errors.Join(err, w.Suspend(t.Context()))
	}
	count := tree.ChunkCount(u.Size, crashChunk)
	for i := range count {
		x := tree.ChunkExtent(i, u.Size, crashChunk)
		c := tree.Chunk{Index: i, Data: data[x.Offset:x.End()]}
		if r.sparse && len(bytes.Trim(c.Data, "\x00")) == 0 {
			f.Values = append(f.Values, tree.Value{})
			continue
		}
		c.Value = tree.ChunkValue(c.Data, i, crashChunk, count == 1)
		f.Values = append(f.Values, c.Value)
		if have[i] == c.Value || int(i) >= upTo {
			continue
		}
		sent[i] = c.Value
		err := w.WriteChunk(t.Context(), c)
		if err == nil && i%2 == 1 && w.journal != nil {
			err = w.flush()
		}
		if err != nil {
			return rep, errors.Join(err, w.Suspend(t.Context()))
		}
	}
	if upTo < int(count) {
		return rep, w.Suspend(t.Context())
	}
	_, err = w.Commit(t.Context(), f)
	return rep, err
}

// TestCrash cuts the power, and kills the process, before every single step of
// every run, and lets the same upload run again on what is left.
func TestCrash(t *testing.T) {
	for _, run := range crashRuns() {
		for _, how := range []struct {
			name  string
			left  func(*fakeDisk, *rand.Rand) map[string][]byte
			seeds int
		}{{"power", (*fakeDisk).powerCut, 2}, {"kill", (*fakeDisk).kill, 1}} {
			t.Run(run.name+"/"+how.name, func(t *testing.T) {
				for limit := 1; ; limit++ {
					for seed := range how.seeds {
						rng := rand.New(rand.NewPCG(uint64(limit), uint64(seed)))
						if done := run.crashAt(t, limit, rng, how.name, how.left); done {
							if limit < 4 {
								t.Fatalf("the whole run has only %d steps", limit)
							}
							return
						}
					}
				}
			})
		}
	}
}

func (r crashRun) crashAt(t *testing.T, limit int, rng *rand.Rand, how string, left func(*fakeDisk, *rand.Rand) map[string][]byte) (done bool) {
	t.Helper()
	dir := t.TempDir()
	if r.old != nil {
		writeFile(t, dir, "target", r.old)
	}
	if r.earlier != nil {
		s := crashStore(t, dir, nil)
		early := r
		early.sparse = false
		if _, err := early.upload(t, s, r.earlier, true, 4); err != nil {
			t.Fatal(err)
		}
		closeStore(t, s)
	}
	disk := newFakeDisk(t, dir)
	disk.limit = limit
	s := crashStore(t, dir, disk)
	first, err := r.upload(t, s, r.data, !r.noResume, 1<<30)
	disk.off = true // closing is no longer part of the run
	_ = s.Close()
	if err != nil && !errors.Is(err, errPower) {
		t.Fatalf("limit %d: %v", limit, err)
	}
	done = err == nil && disk.steps < limit
	files := left(disk, rng)
	after := t.TempDir()
	for name, data := range files {
		writeFile(t, after, name, data)
	}
	target, there := files["target"]
	switch {
	case r.fsync == tree.FsyncOff: // promises nothing until it has run again
	case there && bytes.Equal(target, r.data):
	case done:
		t.Fatalf("limit %d: after a whole run the file is not there", limit)
	case there && !bytes.Equal(target, r.old):
		t.Fatalf("limit %d: the final name has %d bytes, neither the old file nor the new one", limit, len(target))
	case !there && r.old != nil:
		t.Fatalf("limit %d: the old file is gone", limit)
	}
	rep := r.again(t, after, there)
	if rep.bad > 0 && (!r.mayBeBad || how == "kill") {
		t.Fatalf("limit %d: %d chunks were on record as durable and are not", limit, rep.bad)
	}
	if bytes.Equal(target, r.data) || (r.fsync == tree.FsyncOff && how == "power") {
		return done
	}
	for i, v := range first.durable {
		if rep.have[i] != v {
			t.Fatalf("limit %d: chunk %d was durable and is not there", limit, i)
		}
	}
	return done
}

// again resumes on what a crash has left.
func (r crashRun) again(t *testing.T, dir string, there bool) crashReport {
	t.Helper()
	s := crashStore(t, dir, nil)
	defer closeStore(t, s)
	again := r
	again.noReplace = r.noReplace && !there
	rep, err := again.upload(t, s, r.data, true, 1<<30)
	if err != nil {
		t.Fatalf("resume: %v", err)
	}
	files := readDir(t, dir)
	if !bytes.Equal(files["target"], r.data) {
		t.Fatal("the resumed file is wrong")
	}
	if len(files) != 1 {
		t.Fatalf("left behind: %v", strings.Join(sortedKeys(files), " "))
	}
	return rep
}

func sortedKeys(m map[string][]byte) []string {
	var list []string
	for k := range m {
		list = append(list, fmt.Sprintf("%q", k))
	}
	return list
}

func writeFile(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func closeStore(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
