package native

import (
	"context"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A gated tree does what its test wants before it does anything else.
type gated struct {
	FS

	before func(op, path string)

	mu  sync.Mutex
	did []string
}

func (g *gated) note(op string, p tree.Path) {
	if g.before != nil {
		g.before(op, p.String())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.did = append(g.did, op+" "+p.String())
}

// done returns what was done so far, in the order in which it began.
func (g *gated) done() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return strings.Join(g.did, ", ")
}

func (g *gated) Lstat(ctx context.Context, p tree.Path) (tree.Entry, error) {
	g.note("lstat", p)
	return g.FS.Lstat(ctx, p)
}

func (g *gated) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	g.note("mkdir", p)
	return g.FS.Mkdir(ctx, p, perm)
}

func (g *gated) Remove(ctx context.Context, p tree.Path) error {
	g.note("remove", p)
	return g.FS.Remove(ctx, p)
}

func (g *gated) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	g.note("begin", u.Path)
	w, err := g.FS.Begin(ctx, u)
	if err != nil {
		return nil, err
	}
	return &gatedWriter{w, g, u.Path}, nil
}

type gatedWriter struct {
	tree.Writer

	g *gated
	p tree.Path
}

func (w *gatedWriter) WriteChunk(ctx context.Context, c tree.Chunk) error {
	w.g.note("chunk", w.p)
	return w.Writer.WriteChunk(ctx, c)
}

func (g *gated) OpenFile(ctx context.Context, p tree.Path, f tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	g.note("open", p)
	file, err := g.FS.OpenFile(ctx, p, f, perm)
	if err != nil {
		return nil, err
	}
	return &gatedFile{file, g}, nil
}

func (g *gated) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	g.note("list", p)
	return g.FS.List(ctx, p)
}

type gatedFile struct {
	tree.File

	g *gated
}

func (f *gatedFile) WriteAt(p []byte, off int64) (int, error) {
	f.g.note("write", tree.Path(p[:1]))
	return f.File.WriteAt(p, off)
}

func (f *gatedFile) ReadAt(p []byte, off int64) (int, error) {
	f.g.note("read", ".")
	return f.File.ReadAt(p, off)
}

func (f *gatedFile) Close() error {
	f.g.note("close", ".")
	return f.File.Close()
}

// gate puts a gated tree into r.
func (r *rig) gate(before func(op, path string)) *gated {
	g := &gated{FS: r.tree, before: before}
	r.tree = g
	return g
}

func TestServerKeepsTheOrderOfNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		hold := make(chan struct{})
		g := r.gate(func(op, path string) {
			if op == "mkdir" && path == "slow" {
				<-hold
			}
		})
		c := r.login()
		c.send(1, &protocol.Stat{Place: at(".")}) // what is no change does not wait for it
		want[*protocol.Found](c, 1)
		c.send(2, &protocol.Mkdir{Place: at("slow"), Perm: 0o755})
		c.send(3, &protocol.Mkdir{Place: at("slow/a"), Perm: 0o755})
		c.send(4, putOf("slow/a/f", "data"))
		c.send(5, &protocol.Begin{
			Place: at("slow/a/g"), Size: 5, Chunk: 1 << 20, Origin: "m:/g",
		})
		value := tree.ChunkValue([]byte("large"), 0, 1<<20, true)
		c.send(5, &protocol.Data{Length: 5, Flags: protocol.DataLast | protocol.DataValue, Value: value, Payload: []byte("large")})
		c.send(6, &protocol.Stat{Place: at("slow/a")})
		c.send(7, &protocol.Remove{Place: at("slow")})
		c.send(5, &protocol.Suspend{})
		synctest.Wait()
		if got := g.done(); got != "lstat ." {
			t.Errorf("while the first is slow: %s", got)
		}
		close(hold)
		for range 7 { // BEGUN too
			id, m, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			_, failed := m.(*protocol.Fail)
			if failed != (id == 7) {
				t.Errorf("answer to %d: %+v", id, m)
			}
		}
		got := g.done()
		if !strings.HasPrefix(got, "lstat ., mkdir slow, mkdir slow/a, ") {
			t.Errorf("order: %s", got)
		}
		c.bye()
		r.group.Wait()
	})
}

func TestServerWritesInOrderAndReadsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		hold := make(chan struct{})
		g := r.gate(func(op, path string) {
			if op == "write" && path == "a" {
				<-hold
			}
		})
		c := r.login()
		ask[*protocol.Found](c, 1, &protocol.Open{Place: at("f"), Handle: 1, Flags: readWrite, Perm: 0o600})
		ask[*protocol.Found](c, 2, &protocol.Open{Place: at("g"), Handle: 2, Flags: readWrite, Perm: 0o600})
		for i, s := range []string{"a", "b", "c"} {
			c.send(uint64(10+i), &protocol.Write{Handle: 1, Data: []byte(s)})
		}
		c.send(20, &protocol.Read{Handle: 1, Length: 10})
		c.send(21, &protocol.Close{Handle: 1})
		c.fails(22, &protocol.Read{Handle: 1, Length: 10}, protocol.CodeClosed)
		ask[*protocol.OK](c, 23, &protocol.Write{Handle: 2, Data: []byte("z")}) // another file waits for nothing
		synctest.Wait()
		if got := g.done(); got != "open f, open g, write z" {
			t.Errorf("while a write is slow: %s", got)
		}
		close(hold)
		for range 3 {
			if _, m, err := c.next(); err != nil || protocol.TypeOf(m) != protocol.TypeOK {
				t.Fatalf("next = %+v, %v", m, err)
			}
		}
		for range 2 { // READ and CLOSE, whose answers do not wait for each other
			id, m, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if d, ok := m.(*protocol.Data); ok && (id != 20 || string(d.Payload) != "c") {
				t.Errorf("READ = %q, want what was written last", d.Payload)
			}
		}
		if got := g.done(); !strings.HasSuffix(got, "write a, write b, write c, read ., close .") {
			t.Errorf("order: %s", got)
		}
		c.bye()
		r.group.Wait()
	})
}

func TestServerFinishesWritesWhenTheClientIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		hold := make(chan struct{})
		g := r.gate(func(op, path string) {
			if path == "a" {
				<-hold
			}
		})
		done := false
		r.guest = func(g *Guest) { g.Done = func() { done = true } }
		c := r.login()
		ask[*protocol.Found](c, 1, &protocol.Open{Place: at("f"), Handle: 1, Flags: readWrite, Perm: 0o600})
		c.send(2, &protocol.Write{Handle: 1, Data: []byte("a")})
		c.send(3, &protocol.Write{Handle: 1, Data: []byte("b")})
		c.send(4, &protocol.Mkdir{Place: at("a"), Perm: 0o700})
		c.send(5, &protocol.Mkdir{Place: at("b"), Perm: 0o700})
		synctest.Wait()
		c.conn.Cut()
		synctest.Wait()
		if done {
			t.Error("the session ended while something was being written")
		}
		close(hold)
		if err := <-c.ended; err == nil {
			t.Error("Serve = nil for a lost stream")
		}
		if got := g.done(); !strings.Contains(got, "write a") || !strings.Contains(got, "mkdir a") ||
			strings.Contains(got, "write b") || strings.Contains(got, "mkdir b") || !strings.HasSuffix(got, "close .") {
			t.Errorf("done: %s; want what had begun, and the file closed", got)
		}
		if !done {
			t.Error("the guest does not know that the session has ended")
		}
		r.group.Wait()
	})
}

func TestAPanicEndsItsOperationOnly(t *testing.T) {
	r := newRig(t, ServerConfig{})
	r.gate(func(op, path string) {
		if path == "boom" || path == "late" && op == "chunk" {
			panic("boom")
		}
	})
	c := r.login()
	c.fails(1, &protocol.Mkdir{Place: at("boom"), Perm: 0o700}, protocol.CodeFailure)
	c.fails(2, &protocol.Stat{Place: at("boom")}, protocol.CodeFailure)
	c.fails(3, &protocol.List{Place: at("boom"), Frames: 1}, protocol.CodeFailure)
	c.fails(4, &protocol.Open{Place: at("boom"), Handle: 1, Flags: readWrite, Perm: 0o600}, protocol.CodeFailure)
	ask[*protocol.Found](c, 5, &protocol.Open{Place: at("f"), Handle: 1, Flags: readWrite, Perm: 0o600})
	c.fails(6, &protocol.Begin{Place: at("boom"), Size: 1, Chunk: 1 << 20, Origin: "o"}, protocol.CodeFailure)
	ask[*protocol.Begun](c, 7, &protocol.Begin{Place: at("late"), Size: 1, Chunk: 1 << 20, Origin: "o"})
	c.fails(7, &protocol.Data{
		Length: 1, Flags: protocol.DataLast | protocol.DataValue,
		Value: tree.ChunkValue([]byte("x"), 0, 1<<20, true), Payload: []byte("x"),
	}, protocol.CodeFailure)
	c.bye()
	if n := strings.Count(r.log.String(), "operation panicked"); n != 6 {
		t.Errorf("%d panics in the log, want 6", n)
	}
}

func TestOperationsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		hold := make(chan struct{})
		r.gate(func(_, path string) {
			if path == "slow" {
				<-hold
			}
		})
		c := r.login()
		c.send(1, &protocol.Mkdir{Place: at("slow"), Perm: 0o700})
		for i := range sessionOperations - 1 {
			c.send(uint64(2+i), &protocol.Stat{Place: at(".")})
		}
		c.fails(9999, &protocol.Stat{Place: at(".")}, protocol.CodeLimit)
		close(hold)
		for range sessionOperations {
			if _, m, err := c.next(); err != nil || protocol.TypeOf(m) == protocol.TypeFail {
				t.Fatalf("next = %+v, %v", m, err)
			}
		}
		ask[*protocol.Found](c, 10000, &protocol.Stat{Place: at(".")})
		c.bye()
		r.group.Wait()
	})
}
