package sftp

import (
	"context"
	"fmt"
	"sync"

	"transferd/internal/tree"
)

// A file is one open file of the server. A large one is opened once on every
// lane, as it is needed, because a server reads and writes one thing at a time
// on each channel.
type file struct {
	c     *Client
	path  string // as the server spells it
	name  string // for people
	flags uint32 // of OPEN on further lanes

	first  *lane // where it was opened first; it always has a handle there
	spread bool  // whether more lanes are of use

	mu      sync.Mutex
	handles map[*lane]string
	opening bool // somebody opens it on one more lane
	alone   bool // it could not be opened a second time
	closed  bool
}

func newFile(c *Client, l *lane, path, handle string) *file {
	return &file{c: c, path: path, name: c.nameOf(path), first: l, handles: map[*lane]string{l: handle}}
}

// on returns the least busy lane that has a handle, and it. It opens the file on
// one more lane where that one is less busy than all that have it.
func (f *file) on(ctx context.Context) (*lane, string, error) {
	best, h, err := f.have()
	if err != nil || !f.spread {
		return best, h, err
	}
	free, err := f.c.idlest()
	if err != nil {
		return nil, "", err
	}
	if free == nil || free == best || free.load.Load()+requestWeight >= best.load.Load() || !f.mayOpen(free) {
		return best, h, nil
	}
	more, ok := f.openOn(ctx, free)
	switch {
	case ctx.Err() != nil:
		return nil, "", ctx.Err()
	case !ok: // the one there is does as well
		return best, h, nil
	}
	return free, more, nil
}

// openOn opens the file on l too. It reports false if that cannot be, and then
// it is not tried again.
func (f *file) openOn(ctx context.Context, l *lane) (string, bool) {
	h, err := l.openHandle(ctx, queryOn(typeOpen, f.path).uint32(f.flags).attrs(attrs{}))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.opening = false
	if err != nil {
		f.alone = true
		return "", false
	}
	if f.closed {
		l.post(queryOn(typeClose, h))
		return "", false
	}
	f.handles[l] = h
	return h, true
}

// have returns the least busy lane with a handle. A handle on a lane that broke
// is gone for good, and the file with it: what was written through it may be
// missing.
func (f *file) have() (*lane, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, "", tree.ErrClosed
	}
	if err := f.first.cause(); err != nil {
		return nil, "", err
	}
	best := f.first
	for l := range f.handles {
		if err := l.cause(); err != nil {
			return nil, "", err
		}
		if l.load.Load() < best.load.Load() {
			best = l
		}
	}
	return best, f.handles[best], nil
}

// firstHandle returns the lane where the file was opened first, and its handle
// there.
func (f *file) firstHandle() (*lane, string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, "", tree.ErrClosed
	}
	return f.first, f.handles[f.first], f.first.cause()
}

// mayOpen reports whether the caller may open the file on l, one at a time.
func (f *file) mayOpen(l *lane) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, have := f.handles[l]
	if have || f.opening || f.alone || f.closed {
		return false
	}
	f.opening = true
	return true
}

// close lets go of all handles and returns what the server said of the first
// one: some report only there that a write went wrong.
func (f *file) close(ctx context.Context) error {
	last, h := f.release()
	if last == nil {
		return nil
	}
	return last.status(ctx, queryOn(typeClose, h))
}

// abandon lets go of all handles without waiting.
func (f *file) abandon() {
	if last, h := f.release(); last != nil {
		last.post(queryOn(typeClose, h))
	}
}

// release closes all handles but the first, which it returns.
func (f *file) release() (*lane, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, ""
	}
	f.closed = true
	for l, h := range f.handles {
		if l != f.first {
			l.post(queryOn(typeClose, h))
		}
	}
	return f.first, f.handles[f.first]
}

// stat describes the open file.
func (f *file) stat(ctx context.Context) (attrs, error) {
	l, h, err := f.have()
	if err != nil {
		return attrs{}, err
	}
	return l.stat(ctx, queryOn(typeFstat, h))
}

// sync forces what all lanes have written, and the server has answered, to
// stable storage. It is of no use to ask on more than one handle.
func (f *file) sync(ctx context.Context) error {
	l, h, err := f.have()
	if err != nil {
		return err
	}
	return l.status(ctx, extended(extFsync, h))
}

// readAt reads as io.ReaderAt does. Everything is asked for at once, over all
// lanes; a server may answer each part with less than was asked.
func (f *file) readAt(ctx context.Context, b []byte, off int64) (int, error) {
	parts, err := f.askFor(ctx, b, off)
	return f.gather(ctx, parts, err, off)
}

// askFor sends the READs for b, as far as it can.
func (f *file) askFor(ctx context.Context, b []byte, off int64) ([]*call, error) {
	var parts []*call
	for at := 0; at < len(b); {
		l, h, err := f.on(ctx)
		if err != nil {
			return parts, err
		}
		n := evenly(len(b)-at, l.maxRead)
		c := newCall()
		c.dst, c.weight = b[at:at+n:at+n], int64(n)+requestWeight
		//nolint:gosec // offsets are not negative, n is bounded by maxData
		r := queryOn(typeRead, h).uint64(uint64(off + int64(at))).uint32(uint32(n))
		if err := l.send(ctx, r, c); err != nil {
			return parts, err
		}
		parts = append(parts, c)
		at += n
	}
	return parts, nil
}

// gather waits for all parts, whatever the first says: the buffer belongs to
// the caller again only then. sendErr is why there are no more of them.
func (f *file) gather(ctx context.Context, parts []*call, sendErr error, off int64) (int, error) {
	got, gap := 0, false
	var failed error
	for _, p := range parts {
		n, err := 0, p.wait(ctx)
		if err == nil {
			n, err = p.data()
		}
		if gap {
			continue
		}
		got += n
		if err == nil && n < len(p.dst) {
			n, err = f.readRest(ctx, p.dst[n:], off+int64(got))
			got += n
		}
		if err != nil {
			gap, failed = true, err
		}
	}
	if !gap {
		failed = sendErr
	}
	return got, failed
}

// readRest reads what a short answer left, one part after another.
func (f *file) readRest(ctx context.Context, b []byte, off int64) (int, error) {
	got := 0
	for got < len(b) {
		l, h, err := f.have()
		if err != nil {
			return got, err
		}
		n := min(len(b)-got, l.maxRead)
		c := newCall()
		c.dst = b[got : got+n : got+n]
		//nolint:gosec // as in readAt
		r := queryOn(typeRead, h).uint64(uint64(off + int64(got))).uint32(uint32(n))
		if err := l.send(ctx, r, c); err != nil {
			return got, err
		}
		if err := c.wait(ctx); err != nil {
			return got, err
		}
		n, err = c.data()
		if err != nil {
			return got, err
		}
		got += n
	}
	return got, nil
}

// evenly returns how much of n bytes goes into the next packet of at most limit,
// so that no small one is left at the end: that would cost as much as a large one.
func evenly(n, limit int) int {
	packets := (n + limit - 1) / limit
	const block = 4 << 10
	even := (n/packets + block - 1) / block * block
	return min(n, limit, max(even, 1))
}

// notRegular says what a name leads to that is no regular file.
func notRegular(k tree.Kind) error {
	if k == tree.KindFile {
		return nil
	}
	if k == tree.KindDir {
		return fmt.Errorf("%w: %w", tree.ErrNotRegular, tree.ErrIsDir)
	}
	return fmt.Errorf("%w: it is a %s", tree.ErrNotRegular, k)
}
