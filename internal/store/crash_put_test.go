//go:build linux

package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// A putRun is a group of small files that come at the same time.
type putRun struct {
	name  string
	fsync tree.Fsync
	each  bool // the filesystem cannot be synced as a whole
	lost  int  // so many syncs of a file fail
}

const putFiles = 7

// files are what is put: every second name is taken before.
func (r putRun) files() (list []tree.Small, old map[string][]byte) {
	old = map[string][]byte{}
	for i := range putFiles {
		name := fmt.Sprintf("f%d", i)
		f := treetest.Small(tree.Path(name), testData(byte(i), 100+i))
		f.Fsync = r.fsync
		list = append(list, f)
		if i%2 == 1 {
			old[name] = []byte("old " + name)
		}
	}
	return list, old
}

// TestCrashPut cuts the power, and kills the process, before every single step
// of a group of small files: what was acknowledged is there, everything else
// is as it was or whole, and nothing is left of it when it is put again.
func TestCrashPut(t *testing.T) {
	for _, run := range []putRun{
		{name: "together"},
		{name: "each", each: true},
		{name: "lost", each: true, lost: 2},
		{name: "always", fsync: tree.FsyncAlways},
		{name: "off", fsync: tree.FsyncOff},
	} {
		for how, left := range map[string]func(*fakeDisk, *rand.Rand) map[string][]byte{
			"power": (*fakeDisk).powerCut, "kill": (*fakeDisk).kill,
		} {
			t.Run(run.name+"/"+how, func(t *testing.T) {
				for limit := 1; ; limit++ {
					rng := rand.New(rand.NewPCG(uint64(limit), 1))
					if run.crashAt(t, limit, rng, how, left) {
						return
					}
				}
			})
		}
	}
}

func (r putRun) crashAt(t *testing.T, limit int, rng *rand.Rand, how string, left func(*fakeDisk, *rand.Rand) map[string][]byte) (done bool) {
	t.Helper()
	files, old := r.files()
	dir := t.TempDir()
	for name, data := range old {
		writeFile(t, dir, name, data)
	}
	disk := newFakeDisk(t, dir)
	disk.limit = limit
	s := crashStore(t, dir, disk)
	errs := r.put(t, s, disk, files)
	disk.off = true
	closeStore(t, s)

	after := t.TempDir()
	now := left(disk, rng)
	for name, data := range now {
		writeFile(t, after, name, data)
	}
	for i, f := range files {
		name := f.Path.String()
		got, there := now[name]
		before, was := old[name]
		switch {
		case errors.Is(errs[i], unix.EIO) && bytes.Equal(got, f.Data):
			t.Fatalf("limit %d: %s was published although its bytes may be lost", limit, name)
		case r.fsync == tree.FsyncOff && how == "power": // promises nothing
		case there && bytes.Equal(got, f.Data):
		case errs[i] == nil:
			t.Fatalf("limit %d: %s was acknowledged and is not there", limit, name)
		case there != was || !bytes.Equal(got, before):
			t.Fatalf("limit %d: %s has %d bytes, neither the old file nor the new one", limit, name, len(got))
		}
	}
	s = crashStore(t, after, nil)
	defer closeStore(t, s)
	for _, f := range files {
		if _, err := s.Put(t.Context(), f); err != nil {
			t.Fatalf("limit %d: Put again = %v", limit, err)
		}
	}
	if names := readDir(t, after); len(names) != putFiles {
		t.Fatalf("limit %d: left behind: %v", limit, sortedKeys(names))
	}
	return disk.steps < limit
}

// put puts all at the same time. The first sync waits for the others, so that
// they become one group.
func (r putRun) put(t *testing.T, s *Store, disk *fakeDisk, files []tree.Small) []error {
	t.Helper()
	var mu sync.Mutex
	written, lost := 0, r.lost
	all := make(chan struct{})
	open := sync.OnceFunc(func() { close(all) })
	s.hub.trace = func(st step) error {
		if r.each && st.op == stepSyncFS {
			return nil // it fails, see below
		}
		err := disk.hook(st)
		mu.Lock()
		defer mu.Unlock()
		if st.op == stepWrite {
			written++
		}
		if written == len(files) || err != nil {
			open()
		}
		return err
	}
	s.hub.sys.syncTemp = func(int) error {
		<-all
		mu.Lock()
		defer mu.Unlock()
		if lost--; lost >= 0 {
			return unix.EIO
		}
		return nil
	}
	if r.each {
		s.hub.sys.syncFS = func(*dir) error { return unix.ENOSYS }
	}
	errs := make([]error, len(files))
	var group sync.WaitGroup
	for i, f := range files {
		group.Go(func() {
			_, errs[i] = s.Put(t.Context(), f)
			if err := errs[i]; err != nil && !errors.Is(err, errPower) && !errors.Is(err, unix.EIO) {
				t.Errorf("Put = %v", err)
			}
		})
	}
	group.Wait()
	return errs
}
