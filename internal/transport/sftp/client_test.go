package sftp

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
)

// ours dials our own server end, on this machine's whole disk.
func ours(t testing.TB) Dialer {
	t.Helper()
	return func(context.Context) (io.ReadWriteCloser, error) {
		client, server := pipePair()
		done := make(chan struct{})
		go func() { //nolint:contextcheck // the session lives as long as its channel
			defer close(done)
			_ = Serve(context.Background(), server, hostFS(), ServerOptions{})
		}()
		return closeThen{client, func() { <-done }}, nil
	}
}

// closeThen waits for the other end when it is closed.
type closeThen struct {
	io.ReadWriteCloser
	then func()
}

func (c closeThen) Close() error {
	err := c.ReadWriteCloser.Close()
	c.then()
	return err
}

func pipePair() (a, b io.ReadWriteCloser) {
	up, down := newPipe(), newPipe()
	return duplex{down.r, up.w}, duplex{up.r, down.w}
}

type duplex struct {
	*io.PipeReader
	*io.PipeWriter
}

func (d duplex) Close() error { return errors.Join(d.PipeReader.Close(), d.PipeWriter.Close()) }

type onePipe struct {
	r *io.PipeReader
	w *io.PipeWriter
}

func newPipe() onePipe {
	r, w := io.Pipe()
	return onePipe{r, w}
}

// bare dials a stock server and hides from the client that it has any
// extension.
func bare(t testing.TB) Dialer {
	t.Helper()
	dial := stock(t)
	return func(ctx context.Context) (io.ReadWriteCloser, error) {
		ch, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return &bareChannel{ReadWriteCloser: ch}, nil
	}
}

type bareChannel struct {
	io.ReadWriteCloser
	greeting []byte
	greeted  bool
}

func (b *bareChannel) Read(p []byte) (int, error) {
	if !b.greeted {
		r := packetReader{r: b.ReadWriteCloser}
		if _, err := r.next(); err != nil {
			return 0, err
		}
		b.greeted, b.greeting = true, []byte{0, 0, 0, 5, byte(typeVersion), 0, 0, 0, 3}
	}
	if len(b.greeting) > 0 {
		n := copy(p, b.greeting)
		b.greeting = b.greeting[n:]
		return n, nil
	}
	return b.ReadWriteCloser.Read(p)
}

// servers are the other ends that every test of behaviour runs against.
func servers(t *testing.T, test func(t *testing.T, dial Dialer)) {
	t.Helper()
	for _, s := range []struct {
		name string
		dial func(testing.TB) Dialer
	}{{"stock", stock}, {"ours", ours}, {"bare", bare}} {
		t.Run(s.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			test(t, s.dial(t))
		})
	}
}

func TestClientConformance(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		c, err := NewClient(t.Context(), dial, ClientOptions{Journals: journals{t.TempDir()}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		lane, err := c.lane(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		limits := treetest.Limits{
			Grain: time.Second, NoHoles: true, LooseErrors: true, NamedSub: true,
			NoSymlinkAttrs: !lane.has(extLsetstat), NoLinks: !lane.has(extHardlink), VolatileSync: !lane.has(extFsync),
		}
		treetest.RunLimited(t, limits, func(t *testing.T) tree.Sink {
			s, err := c.Sub(t.Context(), diskPath(t, t.TempDir()))
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

// listed is every name in a listing, sorted.
func listed(t *testing.T, s tree.Source, p tree.Path) []string {
	t.Helper()
	var got []string
	for e, err := range s.List(t.Context(), p) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Name)
	}
	slices.Sort(got)
	return got
}

func TestListTellsEveryName(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		dir := t.TempDir()
		want := []string{"new\nline", "\xff\xfe", strings.Repeat("n", 255), "-rf", " ", "*"}
		for i := range 350 {
			want = append(want, "f"+strings.Repeat("x", i%100)+string(rune('a'+i%26))+strings.Repeat("y", i/100))
		}
		slices.Sort(want)
		want = slices.Compact(want)
		for _, n := range want {
			if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c := mustClient(t, dial, ClientOptions{})
		defer closeClient(t, c)
		if diff := cmp.Diff(want, listed(t, c, diskPath(t, dir))); diff != "" {
			t.Errorf("List (-want +got):\n%s", diff)
		}
		for _, err := range c.List(t.Context(), diskPath(t, dir)) {
			if err != nil {
				t.Error(err)
			}
			break // the handle must be closed all the same
		}
	})
}

func mustClient(t *testing.T, dial Dialer, o ClientOptions) *Client {
	t.Helper()
	c, err := NewClient(t.Context(), dial, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func closeClient(t *testing.T, c *Client) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestClientNames(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		ctx, dir := t.Context(), t.TempDir()
		c := mustClient(t, dial, ClientOptions{User: "me@host:22"})
		defer closeClient(t, c)
		at := func(name string) tree.Path { return diskPath(t, filepath.Join(dir, name)) }
		check := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		check("mkdir", c.Mkdir(ctx, at("d"), 0o750), nil)
		check("mkdir again", c.Mkdir(ctx, at("d"), 0o750), fs.ErrExist)
		check("mkdir below nothing", c.Mkdir(ctx, at("no/d"), 0o750), fs.ErrNotExist)
		check("symlink", c.Symlink(ctx, "../el sewhere", at("l")), nil)
		check("symlink again", c.Symlink(ctx, "x", at("l")), fs.ErrExist)
		if got, err := os.Readlink(filepath.Join(dir, "l")); got != "../el sewhere" || err != nil {
			t.Errorf("the symlink leads to %q, %v", got, err)
		}
		e, err := c.Lstat(ctx, at("l"))
		if err != nil || e.Kind != tree.KindSymlink || e.Link != "../el sewhere" {
			t.Errorf("Lstat = %+v, %v", e, err)
		}
		for _, n := range []string{"a", "b"} {
			if err := os.WriteFile(filepath.Join(dir, n), []byte(n), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		check("rename onto a file", c.Rename(ctx, at("a"), at("b"), tree.RenameNoReplace), fs.ErrExist)
		check("rename", c.Rename(ctx, at("a"), at("b"), tree.RenameReplace), nil)
		if got, err := os.ReadFile(filepath.Join(dir, "b")); string(got) != "a" || err != nil {
			t.Errorf("after rename b holds %q, %v", got, err)
		}
		check("rename nothing", c.Rename(ctx, at("a"), at("b"), tree.RenameReplace), fs.ErrNotExist)
		check("rename without replacing", c.Rename(ctx, at("b"), at("d/b"), tree.RenameNoReplace), nil)
		check("remove a full directory", c.Remove(ctx, at("d")), tree.ErrNotEmpty)
		check("remove", c.Remove(ctx, at("d/b")), nil)
		check("remove a directory", c.Remove(ctx, at("d")), nil)
		check("remove a symlink", c.Remove(ctx, at("l")), nil)
		check("remove nothing", c.Remove(ctx, at("l")), fs.ErrNotExist)
		if got := listed(t, c, diskPath(t, dir)); len(got) != 0 {
			t.Errorf("left over: %q", got)
		}
		_, err = c.Stat(ctx, at("no"))
		if check("stat nothing", err, fs.ErrNotExist); err != nil && !strings.Contains(err.Error(), "me@host:22:/") {
			t.Errorf("%q does not say where", err)
		}
		for _, err := range c.List(ctx, at("no")) {
			check("list nothing", err, fs.ErrNotExist)
		}
		home, err := c.Home(ctx)
		if wd, _ := os.Getwd(); err != nil || (remote(home) != wd && home != tree.Root) {
			t.Errorf("Home = %q, %v, want %q", home, err, wd)
		}
	})
}

func TestClientSetAttr(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		ctx, dir := t.Context(), t.TempDir()
		c := mustClient(t, dial, ClientOptions{})
		defer closeClient(t, c)
		name := filepath.Join(dir, "f")
		if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
			t.Fatal(err)
		}
		old, when := time.Unix(1_000_000_000, 0), time.Unix(1_500_000_000, 7)
		if err := os.Chtimes(name, old, old); err != nil {
			t.Fatal(err)
		}
		perm, size := tree.Perm(0o751), int64(3)
		if err := c.SetAttr(ctx, diskPath(t, name), tree.Attr{Perm: &perm, Mtime: &when}); err != nil {
			t.Fatal(err)
		}
		e, err := c.Stat(ctx, diskPath(t, name))
		if err != nil || e.Perm != perm || !tree.SameTime(e.Mtime, when, time.Second) || !e.Atime.Equal(old) {
			t.Errorf("after SetAttr: %+v, %v", e, err)
		}
		if err := c.SetAttr(ctx, diskPath(t, name), tree.Attr{Size: &size}); err != nil {
			t.Fatal(err)
		}
		if e, err := c.Stat(ctx, diskPath(t, name)); err != nil || e.Size != size {
			t.Errorf("after truncation: %+v, %v", e, err)
		}
	})
}

func TestClientOpensOnlyRegularFiles(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		ctx, dir := t.Context(), t.TempDir()
		makeFIFO(t, filepath.Join(dir, "fifo"))
		c := mustClient(t, dial, ClientOptions{})
		defer closeClient(t, c)
		for p, want := range map[string]error{
			filepath.Join(dir, "fifo"): tree.ErrNotRegular, dir: tree.ErrNotRegular,
			"/dev/null": tree.ErrNotRegular, filepath.Join(dir, "no"): fs.ErrNotExist,
		} {
			if r, err := c.Open(ctx, diskPath(t, p)); !errors.Is(err, want) {
				t.Errorf("Open(%s) = %v, %v, want %v", p, r, err, want)
			}
		}
	})
}

func TestClientReadAt(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		data := random(5<<20 + 12345)
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c := mustClient(t, dial, ClientOptions{Lanes: 3})
		defer closeClient(t, c)
		r, err := c.Open(t.Context(), diskPath(t, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			off  int64
			n    int
			want int
			err  error
		}{
			{0, 1, 1, nil},
			{0, len(data), len(data), nil},
			{0, len(data) + 1, len(data), io.EOF},
			{int64(len(data)) - 5, 10, 5, io.EOF},
			{int64(len(data)), 1, 0, io.EOF},
			{int64(len(data)) + 1<<40, 1 << 20, 0, io.EOF},
			{12345, 3 << 20, 3 << 20, nil},
		} {
			buf := make([]byte, x.n)
			n, err := r.ReadAt(buf, x.off)
			if n != x.want || !errors.Is(err, x.err) {
				t.Errorf("ReadAt(%d bytes at %d) = %d, %v, want %d, %v", x.n, x.off, n, err, x.want, x.err)
			}
			if n > 0 && string(buf[:n]) != string(data[x.off:x.off+int64(n)]) {
				t.Errorf("ReadAt(%d bytes at %d) has other bytes", x.n, x.off)
			}
		}
		if e, err := r.Stat(t.Context()); err != nil || e.Size != int64(len(data)) {
			t.Errorf("Stat = %+v, %v", e, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, tree.ErrClosed) {
			t.Errorf("ReadAt after Close = %v", err)
		}
	})
}

func TestSubHoldsItsRoot(t *testing.T) {
	servers(t, func(t *testing.T, dial Dialer) {
		ctx, dir := t.Context(), t.TempDir()
		for _, d := range []string{"in/d", "out"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range []string{"in/d/f", "out/secret"} {
			if err := os.WriteFile(filepath.Join(dir, f), []byte(f), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for name, to := range map[string]string{"in/away": "../out", "in/abs": filepath.Join(dir, "out/secret"), "in/near": "d", "in/file": "d/f"} {
			if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		c := mustClient(t, dial, ClientOptions{})
		defer closeClient(t, c)
		s, err := c.Sub(ctx, diskPath(t, filepath.Join(dir, "in")))
		if err != nil {
			t.Fatal(err)
		}
		for p, want := range map[tree.Path]error{"d/f": nil, "near/f": nil, "file": nil, "away/secret": tree.ErrEscape, "abs": tree.ErrEscape} {
			r, err := s.Open(ctx, p)
			if !errors.Is(err, want) {
				t.Errorf("Open(%s) = %v, want %v", p, err, want)
			}
			if err == nil {
				_ = r.Close()
			}
		}
		if err := s.Mkdir(ctx, "away/x", 0o700); !errors.Is(err, tree.ErrEscape) {
			t.Errorf("Mkdir through a symlink that leads out: %v", err)
		}
		if _, err := s.Begin(ctx, tree.Upload{Path: "away/x", Size: 1}); !errors.Is(err, tree.ErrEscape) {
			t.Errorf("Begin through a symlink that leads out: %v", err)
		}
		if _, err := c.Sub(ctx, diskPath(t, filepath.Join(dir, "in/d/f"))); !errors.Is(err, tree.ErrNotDir) {
			t.Errorf("Sub of a file: %v", err)
		}
	})
}

func TestFurtherLanesMayBeRefused(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dial := stock(t)
	var dials atomic.Int32
	c := mustClient(t, func(ctx context.Context) (io.ReadWriteCloser, error) {
		if dials.Add(1) > 2 {
			return nil, errors.New("administratively prohibited")
		}
		return dial(ctx)
	}, ClientOptions{Lanes: 8, Journals: journals{t.TempDir()}})
	defer closeClient(t, c)
	name, data := filepath.Join(t.TempDir(), "f"), random(32<<20)
	if err := putFile(t, c, tree.Upload{Path: diskPath(t, name)}, data); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != string(data) {
		t.Errorf("other bytes arrived, %v", err)
	}
	if n := dials.Load(); n > 3 {
		t.Errorf("dialled %d times although refused", n)
	}
}

func TestALaneThatDiesIsDialledAgain(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	var last *process
	dial := stock(t)
	c := mustClient(t, func(ctx context.Context) (io.ReadWriteCloser, error) {
		ch, err := dial(ctx)
		if p, ok := ch.(*process); ok {
			last = p
		}
		return ch, err
	}, ClientOptions{Lanes: 1})
	defer closeClient(t, c)
	name := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), diskPath(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := last.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, tree.ErrLost) {
		t.Errorf("read from a dead server: %v", err)
	}
	if _, err := c.Stat(t.Context(), diskPath(t, name)); err != nil {
		t.Errorf("Stat on a new lane: %v", err)
	}
	if _, err := r.ReadAt(make([]byte, 1), 0); !errors.Is(err, tree.ErrLost) {
		t.Errorf("a lost handle came back: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
