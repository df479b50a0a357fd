package sftp

import (
	"context"
	"errors"
	"io"
	"sync"

	"transferd/internal/tree"
)

// Open implements tree.Source. The reader ends with ctx, as an answer's body
// ends with its request in package net/http: its reads have no context of their
// own.
func (c *Client) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	return c.openAs(ctx, p, nil)
}

// openAs opens p, which is what e says where the caller has looked already.
func (c *Client) openAs(ctx context.Context, p tree.Path, e *tree.Entry) (tree.Reader, error) {
	r, err := on(ctx, c, "open", p, func(l *lane) (*reader, error) { return c.openReader(ctx, l, p, e) })
	if err != nil {
		return nil, err
	}
	return r, nil
}

// spreadFrom is the size from which a file is worth being open on several
// lanes.
const spreadFrom = 4 << 20

func (c *Client) openReader(ctx context.Context, l *lane, p tree.Path, e *tree.Entry) (*reader, error) {
	path := remote(p)
	if e == nil {
		// Looked at before it is opened: an OPEN of a FIFO blocks the server.
		a, err := l.stat(ctx, queryOn(typeStat, path))
		if err != nil {
			return nil, err
		}
		e = new(a.entry(p.Base()))
	}
	if err := notRegular(e.Kind); err != nil {
		return nil, err
	}
	h, err := l.openHandle(ctx, queryOn(typeOpen, path).uint32(openRead).attrs(attrs{}))
	if err != nil {
		return nil, err
	}
	f := newFile(c, l, path, h)
	f.flags = openRead
	f.spread = e.Size >= spreadFrom
	r := &reader{f: f, base: p.Base(), size: e.Size}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	return r, nil
}

// A reader is a file open for reading.
type reader struct {
	f      *file
	base   string
	size   int64           // when it was opened
	ctx    context.Context // ends with Close and with that of Open
	cancel context.CancelCauseFunc
	once   sync.Once

	mu    sync.Mutex
	after *call // an FSTAT that was sent right behind the last READ
}

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, pathError("read", r.f.name, errBadSize)
	}
	if len(b) == 0 {
		return 0, nil
	}
	parts, err := r.f.askFor(r.ctx, b, off)
	if err == nil && !r.f.spread && off+int64(len(b)) >= r.size {
		r.askAfter()
	}
	n, err := r.f.gather(r.ctx, parts, err, off)
	if err != nil && r.ctx.Err() != nil {
		err = context.Cause(r.ctx)
	}
	if errors.Is(err, io.EOF) && !errors.Is(err, tree.ErrLost) {
		return n, io.EOF
	}
	return n, pathError("read", r.f.name, err)
}

// askAfter asks what the file is, behind the READs that are on their way. Who
// has read a small file to its end will ask whether it changed meanwhile, and
// finds the answer there: one round trip less for each file.
func (r *reader) askAfter() {
	l, h, err := r.f.firstHandle()
	if err != nil {
		return // the READs say it too
	}
	c := newCall()
	if l.send(r.ctx, queryOn(typeFstat, h), c) != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.after = c
}

// Stat implements tree.Reader.
func (r *reader) Stat(ctx context.Context) (tree.Entry, error) {
	r.mu.Lock()
	c := r.after
	r.after = nil
	r.mu.Unlock()
	var a attrs
	var err error
	if c == nil {
		a, err = r.f.stat(ctx)
	} else if err = c.wait(ctx); err == nil {
		a, err = c.attrs()
	}
	if err != nil {
		return tree.Entry{}, pathError("stat", r.f.name, err)
	}
	return a.entry(r.base), nil
}

// Close implements io.Closer. It waits for nothing: the server's answer to the
// end of reading tells nothing.
func (r *reader) Close() error {
	r.once.Do(func() {
		r.cancel(tree.ErrClosed)
		r.f.abandon()
	})
	return nil
}
