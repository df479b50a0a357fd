package transfer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"transferd/internal/store"
	"transferd/internal/tree"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// A bench is two directories, one copied from and one copied to.
type bench struct {
	t        *testing.T
	src, dst string // on the disk
	from, to *faults
	source   tree.Sink
	sink     tree.Sink
	log      events
}

// newBench makes a bench in memory, where the system has such a directory: the
// tests copy hundreds of times and suspend as often, and each sync of a disk
// that others keep busy can take seconds.
func newBench(t *testing.T) *bench {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "transfer-test-") //nolint:usetesting // not where t.TempDir is
	if err != nil {
		return newDiskBench(t)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return newBenchIn(t, dir)
}

// newDiskBench makes a bench on the disk, for large files.
func newDiskBench(t *testing.T) *bench {
	t.Helper()
	return newBenchIn(t, t.TempDir())
}

func newBenchIn(t *testing.T, dir string) *bench {
	t.Helper()
	b := &bench{t: t, src: filepath.Join(dir, "src"), dst: filepath.Join(dir, "dst"), from: &faults{}, to: &faults{}}
	for _, dir := range []string{b.src, b.dst} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	b.source, b.sink = b.from.around(openStore(t, b.src)), b.to.around(openStore(t, b.dst))
	return b
}

// remote makes both ends, or one, like servers of SFTP.
func (b *bench) remote(from, to bool) *bench {
	b.from.remote, b.to.remote = from, to
	b.source, b.sink = b.from.around(openStore(b.t, b.src)), b.to.around(openStore(b.t, b.dst))
	return b
}

// as makes the ends like end says.
func (b *bench) as(end end) *bench {
	b.from.able, b.to.able = end.able, end.able
	return b.remote(end.from, end.to)
}

// heal forgets all faults and calls.
func (b *bench) heal() {
	b.from.dead()
	b.to.dead()
	from, to, able := b.from.remote, b.to.remote, b.to.able
	b.from, b.to = &faults{able: able}, &faults{able: able}
	b.remote(from, to)
	b.log = events{}
}

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// place is the operand name, written as a person writes it.
func place(s tree.Source, host, name string) Place {
	p, _ := tree.ParsePath(name) // the tests' own names
	trimmed := strings.TrimRight(name, "/")
	last := trimmed[strings.LastIndexByte(trimmed, '/')+1:]
	return Place{
		Tree: s, Path: p, Label: name, Host: host,
		Slash: trimmed != name, Contents: last == "." || last == "..",
	}
}

// options are what the command line sets if nothing is said.
func options() Options {
	return Options{
		Recursive: true, Preserve: Preserve{Mode: true, Times: true}, Umask: 0o022,
		Retries: 5, Machine: "machine", Fsync: tree.FsyncOff,
	}
}

// copy copies the operands names, the last of which is the destination.
func (b *bench) copy(ctx context.Context, o Options, names ...string) (Summary, error) {
	b.t.Helper()
	srcs := make([]Place, 0, len(names)-1)
	for _, name := range names[:len(names)-1] {
		srcs = append(srcs, place(b.source, "source", name))
	}
	if o.Events == nil {
		o.Events = b.log.add
	}
	return Copy(ctx, place(b.sink, "", names[len(names)-1]), srcs, o)
}

// must is copy that has to succeed.
func (b *bench) must(o Options, names ...string) Summary {
	b.t.Helper()
	sum, err := b.copy(b.t.Context(), o, names...)
	if err != nil {
		b.t.Fatalf("copy %q = %v", names, err)
	}
	return sum
}

// events notes what a copy tells.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// told returns the events of type T.
func told[T Event](e *events) (list []T) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if t, ok := event.(T); ok {
			list = append(list, t)
		}
	}
	return list
}

// bytesOf returns n bytes that are no zeros and the same every time.
func bytesOf(seed byte, n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data) // never fails
	for i := range data {
		data[i] |= 1
	}
	return data
}

// moment is a time long ago, with nanoseconds.
func moment(n int) time.Time { return time.Unix(1_300_000_000+int64(n), 123_456_789) }

// write makes the file path below dir, with all directories of it.
func write(t *testing.T, dir, path string, data []byte) {
	t.Helper()
	name := filepath.Join(dir, path)
	err := os.MkdirAll(filepath.Dir(name), 0o755)
	if err == nil {
		err = os.WriteFile(name, data, 0o644)
	}
	if err == nil {
		err = os.Chtimes(name, moment(1), moment(2))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantFile(t *testing.T, dir, path string, data []byte) {
	t.Helper()
	if got := read(t, dir, path); !bytes.Equal(got, data) {
		at := 0
		for at < min(len(got), len(data)) && got[at] == data[at] {
			at++
		}
		t.Fatalf("%s has %d bytes, want %d; they differ from byte %d on", path, len(got), len(data), at)
	}
}

// snapshot describes everything below dir, by path: kind, mode, mtime and
// contents. grain is what of the times counts.
func snapshot(t *testing.T, dir string, grain time.Duration) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		what := fmt.Sprintf("%v %v", info.Mode(), info.ModTime().Truncate(grain).UnixNano())
		switch info.Mode().Type() {
		case 0:
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %d %x", len(data), sha256.Sum256(data))
		case fs.ModeSymlink:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what += " " + link
		}
		all[rel] = what
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantAlike compares the trees at a and b, times to the given grain.
func wantAlike(t *testing.T, a, b string, grain time.Duration) {
	t.Helper()
	if diff := cmp.Diff(snapshot(t, a, grain), snapshot(t, b, grain)); diff != "" {
		t.Errorf("the copy differs (-source +copy):\n%s", diff)
	}
}

// wantNoRest fails if anything of ours is left below dir.
func wantNoRest(t *testing.T, dir string) {
	t.Helper()
	for path := range snapshot(t, dir, time.Second) {
		if strings.HasPrefix(filepath.Base(path), ".transfer-") {
			t.Errorf("%s is left", path)
		}
	}
}

// hostPlace is the file at path of this machine.
func hostPlace(t *testing.T, path string) Place {
	t.Helper()
	p, err := store.HostPath(path)
	if err != nil {
		t.Fatal(err)
	}
	s := store.Host(store.Options{})
	t.Cleanup(func() { _ = s.Close() })
	return Place{Tree: s, Path: p, Label: path}
}
