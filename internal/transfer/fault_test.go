package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"transferd/internal/tree"
)

// A call is one call of a method of a faulty tree, a Reader or a Writer of it.
type call struct {
	n    int // from 1 on
	op   string
	path tree.Path // from the outermost tree
}

func (c call) String() string { return fmt.Sprintf("%d: %s %s", c.n, c.op, c.path) }

// A fault is what goes wrong at a call: an error instead of doing it, or after
// it was done.
type fault struct{ before, after error }

// faults decides what goes wrong in a tree and notes what was called.
type faults struct {
	remote bool // be like a server of SFTP: whole seconds, no inodes, no holes
	able   bool // have the abilities of our own protocol: then a server tells all

	mu      sync.Mutex
	calls   []call
	at      func(call) fault // nil: nothing
	block   func(call) bool  // such calls wait for the end of their context
	writers map[*faultyWriter]struct{}
	written int64                       // bytes that writers took
	read    int64                       // bytes that readers gave
	damage  func(p []byte, index int64) // what arrives of ReadChunk; nil: nothing is
}

// around makes inner faulty. It is a tree.Suber, and where remote is set a
// tree.Carrier.
func (f *faults) around(inner tree.Sink) tree.Sink { return f.wrap(inner, tree.Root) }

func (f *faults) wrap(inner tree.Sink, base tree.Path) tree.SubTree {
	t := faulty{Sink: inner, f: f, base: base}
	switch {
	case f.able && f.remote:
		return ableCarrier{able{t}}
	case f.able:
		return able{t}
	case f.remote:
		return carrier{t}
	}
	return t
}

// do runs act as the call of op unless a fault comes in its way. undo is called
// when it was done but nobody will know.
func (f *faults) do(ctx context.Context, op string, p tree.Path, act func() error, undo func()) error {
	f.mu.Lock()
	c := call{n: len(f.calls) + 1, op: op, path: p}
	f.calls = append(f.calls, c)
	var bad fault
	if f.at != nil {
		bad = f.at(c)
	}
	wait := f.block != nil && f.block(c)
	f.mu.Unlock()
	if wait {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	if bad.before != nil {
		return fmt.Errorf("%s %s: %w", op, p, bad.before)
	}
	err := act()
	if err == nil && bad.after != nil {
		if undo != nil {
			undo()
		}
		return fmt.Errorf("%s %s, which was done: %w", op, p, bad.after)
	}
	return err
}

// count returns how many calls of op there were, of any if op is "".
func (f *faults) count(op string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, c := range f.calls {
		if op == "" || c.op == op {
			n++
		}
	}
	return n
}

// dead ends the writers that a killed copy left, as the death of its process
// would, except that what they took is recorded.
func (f *faults) dead() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for w := range f.writers {
		_ = w.Writer.Suspend(context.Background())
	}
	f.writers = nil
}

type faulty struct {
	tree.Sink
	f    *faults
	base tree.Path
}

type carrier struct{ faulty }

func (carrier) Transport() string { return "sftp" }

func (t faulty) do(ctx context.Context, op string, p tree.Path, act func() error) error {
	return t.f.do(ctx, op, t.base.Append(p), act, nil)
}

// seen is e as the tree shows it.
func (t faulty) seen(e tree.Entry) tree.Entry {
	if t.f.remote && !t.f.able {
		e.Mtime, e.Atime, e.Ctime = e.Mtime.Truncate(time.Second), e.Atime.Truncate(time.Second), time.Time{}
		e.Inode, e.Device, e.Nlink, e.Grain = 0, 0, 0, time.Second
	}
	return e
}

func (t faulty) attr(a tree.Attr) tree.Attr {
	if t.f.remote && !t.f.able && a.Mtime != nil {
		a.Mtime = ptr(a.Mtime.Truncate(time.Second))
	}
	return a
}

func (t faulty) Stat(ctx context.Context, p tree.Path) (e tree.Entry, err error) {
	err = t.do(ctx, "stat", p, func() error { e, err = t.Sink.Stat(ctx, p); return err })
	return t.seen(e), err
}

func (t faulty) Lstat(ctx context.Context, p tree.Path) (e tree.Entry, err error) {
	err = t.do(ctx, "lstat", p, func() error { e, err = t.Sink.Lstat(ctx, p); return err })
	return t.seen(e), err
}

// List fails behind its first entry.
func (t faulty) List(ctx context.Context, p tree.Path) iter.Seq2[tree.Entry, error] {
	return func(yield func(tree.Entry, error) bool) {
		lost := t.do(ctx, "list", p, func() error { return nil })
		for e, err := range t.Sink.List(ctx, p) {
			if !yield(t.seen(e), err) || err != nil {
				return
			}
			if lost != nil {
				break
			}
		}
		if lost != nil {
			yield(tree.Entry{}, lost)
		}
	}
}

func (t faulty) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	var r tree.Reader
	err := t.f.do(ctx, "open", t.base.Append(p), func() (err error) {
		r, err = t.Sink.Open(ctx, p)
		return err
	}, func() { _ = r.Close() })
	if err != nil {
		return nil, err
	}
	return &faultyReader{Reader: r, ctx: ctx, t: t, path: t.base.Append(p)}, nil
}

func (t faulty) Mkdir(ctx context.Context, p tree.Path, perm tree.Perm) error {
	return t.do(ctx, "mkdir", p, func() error { return t.Sink.Mkdir(ctx, p, perm) })
}

func (t faulty) Symlink(ctx context.Context, target string, p tree.Path) error {
	return t.do(ctx, "symlink", p, func() error { return t.Sink.Symlink(ctx, target, p) })
}

func (t faulty) Rename(ctx context.Context, from, to tree.Path, how tree.RenameMode) error {
	return t.do(ctx, "rename", to, func() error { return t.Sink.Rename(ctx, from, to, how) })
}

func (t faulty) Remove(ctx context.Context, p tree.Path) error {
	return t.do(ctx, "remove", p, func() error { return t.Sink.Remove(ctx, p) })
}

func (t faulty) SetAttr(ctx context.Context, p tree.Path, a tree.Attr) error {
	return t.do(ctx, "setattr", p, func() error { return t.Sink.SetAttr(ctx, p, t.attr(a)) })
}

func (t faulty) Sub(ctx context.Context, p tree.Path) (tree.SubTree, error) {
	var sub tree.SubTree
	err := t.f.do(ctx, "sub", t.base.Append(p), func() (err error) {
		s, ok := t.Sink.(tree.Suber)
		if !ok {
			return errors.ErrUnsupported
		}
		sub, err = s.Sub(ctx, p)
		return err
	}, func() { _ = sub.Close() })
	if err != nil {
		return nil, err
	}
	return t.f.wrap(sub, t.base.Append(p)), nil
}

func (t faulty) Tidy(ctx context.Context, p tree.Path, origin string) error {
	tidier, ok := t.Sink.(tree.Tidier)
	if !ok || t.f.remote {
		return nil
	}
	return t.do(ctx, "tidy", p, func() error { return tidier.Tidy(ctx, p, origin) })
}

func (t faulty) Close() error {
	if c, ok := t.Sink.(tree.SubTree); ok {
		return c.Close()
	}
	return nil
}

func (t faulty) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	var w tree.Writer
	err := t.f.do(ctx, "begin", t.base.Append(u.Path), func() (err error) {
		w, err = t.Sink.Begin(ctx, u)
		return err
	}, func() { _ = w.Suspend(ctx) })
	if err != nil {
		return nil, err
	}
	fw := &faultyWriter{Writer: w, t: t, path: t.base.Append(u.Path)}
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	if t.f.writers == nil {
		t.f.writers = map[*faultyWriter]struct{}{}
	}
	t.f.writers[fw] = struct{}{}
	return fw, nil
}

type faultyReader struct {
	tree.Reader
	ctx  context.Context // of Open: reads end with it
	t    faulty
	path tree.Path
}

func (r *faultyReader) ReadAt(p []byte, off int64) (n int, _ error) {
	var end error
	err := r.t.f.do(r.ctx, "read", r.path, func() error { n, end = r.Reader.ReadAt(p, off); return nil }, nil)
	if err != nil {
		return 0, err
	}
	r.t.f.mu.Lock()
	defer r.t.f.mu.Unlock()
	r.t.f.read += int64(n)
	return n, end
}

func (r *faultyReader) Stat(ctx context.Context) (e tree.Entry, err error) {
	err = r.t.f.do(ctx, "fstat", r.path, func() error { e, err = r.Reader.Stat(ctx); return err }, nil)
	return r.t.seen(e), err
}

func (r *faultyReader) Extents(ctx context.Context) ([]tree.Extent, error) {
	x, ok := r.Reader.(tree.ExtentReader)
	if !ok || r.t.f.remote && !r.t.f.able {
		return nil, errors.ErrUnsupported
	}
	return x.Extents(ctx)
}

type faultyWriter struct {
	tree.Writer
	t    faulty
	path tree.Path
}

func (w *faultyWriter) end() {
	w.t.f.mu.Lock()
	defer w.t.f.mu.Unlock()
	delete(w.t.f.writers, w)
}

func (w *faultyWriter) WriteChunk(ctx context.Context, c tree.Chunk) error {
	err := w.t.f.do(ctx, "write", w.path, func() error { return w.Writer.WriteChunk(ctx, c) }, nil)
	if err == nil {
		w.t.f.mu.Lock()
		defer w.t.f.mu.Unlock()
		w.t.f.written += payload(int64(len(c.Data)), c.Extents)
	}
	return err
}

func (w *faultyWriter) Recheck(ctx context.Context, bad func(int64)) error {
	return w.t.f.do(ctx, "recheck", w.path, func() error { return w.Writer.Recheck(ctx, bad) }, nil)
}

func (w *faultyWriter) Commit(ctx context.Context, f tree.Final) (r tree.Receipt, err error) {
	f.Attr = w.t.attr(f.Attr)
	done := false
	err = w.t.f.do(ctx, "commit", w.path, func() error {
		done = true
		r, err = w.Writer.Commit(ctx, f)
		return err
	}, nil)
	if done {
		w.end()
	} else if errors.Is(err, tree.ErrLost) || ctx.Err() != nil {
		w.end()
		_ = w.Writer.Suspend(context.WithoutCancel(ctx))
	}
	return r, err
}

func (w *faultyWriter) Suspend(ctx context.Context) error {
	return w.t.f.do(ctx, "suspend", w.path, func() error { w.end(); return w.Writer.Suspend(ctx) }, nil)
}

func (w *faultyWriter) Abort(ctx context.Context) error {
	return w.t.f.do(ctx, "abort", w.path, func() error { w.end(); return w.Writer.Abort(ctx) }, nil)
}
