package native

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
	"transferd/protocol"
)

const (
	// hashAtOnce is how many chunks a HASH asks for: a gigabyte at most, so that
	// nobody has to wait for long when it is no longer wanted.
	hashAtOnce = 256

	// maxExtents bounds what is kept of a file's map; one with more pieces is read
	// as if it had no holes.
	maxExtents = 1 << 20

	// readsAtOnce is how many READ one ReadAt has open.
	readsAtOnce = 4
)

// An openFile is a file of the server that a handle holds. It is lost with its
// session.
type openFile struct {
	s      *clientSession
	handle uint32
	path   tree.Path
	name   string // of path, for errors

	found   tree.Entry  // what OPEN told
	touched atomic.Bool // found may be out of date for what came after it
	written atomic.Bool
	closed  atomic.Bool
	writing sync.Mutex // held while the pieces of one WriteAt are sent
}

var (
	_ tree.File         = (*openFile)(nil)
	_ tree.ExtentReader = (*openFile)(nil)
	_ tree.ChunkReader  = (*openFile)(nil)
	_ tree.ChunkHasher  = (*openFile)(nil)
)

// Open implements tree.Source. The Reader is a tree.ExtentReader, a
// tree.ChunkReader and a tree.ChunkHasher.
func (b *branch) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	f, err := b.open(ctx, p, protocol.OpenRead, 0)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// OpenFile implements tree.FS.
func (b *branch) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	f, err := b.open(ctx, p, protocol.OpenFlags(flags), perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (b *branch) open(ctx context.Context, p tree.Path, flags protocol.OpenFlags, perm tree.Perm) (*openFile, error) {
	s, dir, err := b.at(ctx)
	if err != nil {
		return nil, failed("open", b.name(p), err)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h, err := s.handle(ctx)
	if err != nil {
		return nil, failed("open", b.name(p), err)
	}
	m, err := s.control.do(ctx, &protocol.Open{
		Place: place(dir, p), Handle: h, Flags: flags, Perm: uint32(perm),
	}, protocol.TypeFound)
	if err != nil {
		var said *failError
		if errors.As(err, &said) {
			s.names.Release(1)
		} else {
			s.drop(h) //nolint:contextcheck // it may still be opened, though nobody waits
		}
		return nil, failed("open", b.name(p), err)
	}
	e := entryFromWire(p.Base(), &m.(*protocol.Found).Entry)
	return &openFile{s: s, handle: h, path: p, name: b.name(p), found: e}, nil
}

// use returns an error if f has been closed.
func (f *openFile) use(op string) error {
	if f.closed.Load() {
		return failed(op, f.name, tree.ErrClosed)
	}
	return nil
}

// do sends a request about f over the control stream.
func (f *openFile) do(ctx context.Context, op string, m protocol.Message, want protocol.Type) (protocol.Message, error) {
	if err := f.use(op); err != nil {
		return nil, err
	}
	answer, err := f.s.control.do(ctx, m, want)
	return answer, failed(op, f.name, err)
}

// Stat implements tree.Reader. Until something was read or written, what OPEN
// told is as good as a new answer: nothing can have been made of older bytes.
func (f *openFile) Stat(ctx context.Context) (tree.Entry, error) {
	if err := ctx.Err(); err != nil {
		return tree.Entry{}, err
	}
	if err := f.use("stat"); err != nil {
		return tree.Entry{}, err
	}
	if !f.touched.Swap(true) {
		return f.found, nil
	}
	m, err := f.do(ctx, "stat", &protocol.StatFile{Handle: f.handle}, protocol.TypeFound)
	if err != nil {
		return tree.Entry{}, err
	}
	return entryFromWire(f.path.Base(), &m.(*protocol.Found).Entry), nil
}

// ReadAt implements io.ReaderAt.
func (f *openFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.use("read"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, failed("read", f.name, errors.New("negative offset"))
	}
	if len(p) == 0 {
		return 0, nil
	}
	f.touched.Store(true)
	beyond := int64(len(p)) > math.MaxInt64-off
	if beyond {
		p = p[:math.MaxInt64-off]
	}
	pieces := make([]*reading, (len(p)+protocol.MaxRead-1)/protocol.MaxRead)
	var group errgroup.Group
	group.SetLimit(readsAtOnce)
	for i := range pieces {
		part := p[i*protocol.MaxRead : min(len(p), (i+1)*protocol.MaxRead)]
		read := func() (err error) {
			pieces[i], err = f.s.read(context.Background(), &protocol.Read{
				Handle: f.handle, Offset: off + int64(i)*protocol.MaxRead, Length: uint32(len(part)), //nolint:gosec // at most MaxRead
				Flags: f.s.readFlags(),
			}, part)
			return err
		}
		if len(pieces) > 1 {
			group.Go(read)
		} else if err := read(); err != nil {
			return 0, failed("read", f.name, err)
		}
	}
	if err := group.Wait(); err != nil {
		return 0, failed("read", f.name, err)
	}
	n := 0
	for _, r := range pieces {
		if n += r.n; r.n < len(r.p) {
			return n, io.EOF
		}
	}
	if beyond {
		return n, io.EOF
	}
	return n, nil
}

// ReadChunk implements tree.ChunkReader.
func (f *openFile) ReadChunk(ctx context.Context, p []byte, index, size, chunkSize int64) (tree.Value, error) {
	if err := f.use("read"); err != nil {
		return tree.Value{}, err
	}
	if len(p) == 0 || len(p) > protocol.MaxRead || chunkSize > protocol.MaxChunk || chunkSize < protocol.MinChunk {
		return tree.Value{}, failed("read", f.name, errors.ErrUnsupported)
	}
	f.touched.Store(true)
	r, err := f.s.read(ctx, &protocol.Read{
		Handle: f.handle, Offset: tree.ChunkExtent(index, size, chunkSize).Offset, Length: uint32(len(p)), //nolint:gosec // just bounded
		Flags: f.s.readFlags() | protocol.ReadValue, Chunk: uint32(chunkSize),
	}, p)
	if err != nil {
		return tree.Value{}, failed("read", f.name, err)
	}
	if r.n < len(p) {
		return tree.Value{}, failed("read", f.name, tree.ErrSourceChanged)
	}
	return r.found, nil
}

// HashChunks implements tree.ChunkHasher.
func (f *openFile) HashChunks(ctx context.Context, first, count, size, chunkSize int64) ([]tree.Value, error) {
	if chunkSize > protocol.MaxChunk || chunkSize < protocol.MinChunk || first < 0 || count < 0 ||
		count > tree.ChunkCount(size, chunkSize)-first {
		return nil, failed("read", f.name, errors.ErrUnsupported)
	}
	f.touched.Store(true)
	values := make([]tree.Value, 0, count)
	for at := first; at < first+count; {
		n := min(hashAtOnce, first+count-at)
		m, err := f.hash(ctx, &protocol.Hash{
			Handle: f.handle, Chunk: uint32(chunkSize), First: uint64(at), Count: uint32(n), //nolint:gosec // at most hashAtOnce
		})
		if err != nil {
			return nil, failed("read", f.name, err)
		}
		if int64(len(m.Values)) != n {
			return nil, failed("read", f.name, tree.ErrSourceChanged)
		}
		for _, v := range m.Values {
			values = append(values, tree.Value(v))
		}
		at += n
	}
	return values, nil
}

func (f *openFile) hash(ctx context.Context, m *protocol.Hash) (*protocol.Hashed, error) {
	for {
		if err := f.use("read"); err != nil {
			return nil, err
		}
		l := f.s.pick(1)
		answer, err := l.do(ctx, m, protocol.TypeHashed)
		l.load.Add(-1)
		if err == nil {
			return answer.(*protocol.Hashed), nil
		}
		if !f.s.again(l, err) {
			return nil, err
		}
	}
}

// Extents implements tree.ExtentReader.
func (f *openFile) Extents(ctx context.Context) ([]tree.Extent, error) {
	extents := []tree.Extent{}
	for end := int64(0); ; {
		m, err := f.do(ctx, "read", &protocol.Map{Handle: f.handle, Offset: end}, protocol.TypeMapped)
		if err != nil {
			return nil, err
		}
		mapped := m.(*protocol.Mapped)
		for _, e := range mapped.Extents {
			if e.Offset < end { // ascending within a message, as it was decoded
				return nil, failed("read", f.name, fmt.Errorf("the server's map goes back to %d", e.Offset))
			}
			extents = append(extents, tree.Extent{Offset: e.Offset, Length: e.Length})
			end = e.Offset + e.Length
		}
		switch {
		case mapped.Last:
			return extents, nil
		case len(mapped.Extents) == 0, len(extents) > maxExtents:
			return nil, failed("read", f.name, errors.ErrUnsupported)
		}
	}
}

// SetAttr implements tree.File.
func (f *openFile) SetAttr(ctx context.Context, attr tree.Attr) error {
	f.touched.Store(true)
	_, err := f.do(ctx, "setattr", &protocol.SetAttrFile{Handle: f.handle, Attr: attrToWire(attr)}, protocol.TypeOK)
	return err
}

// Sync implements tree.File.
func (f *openFile) Sync(ctx context.Context) error {
	_, err := f.do(ctx, "sync", &protocol.Sync{Handle: f.handle}, protocol.TypeOK)
	return err
}

// Close implements io.Closer. Of a file that was written to it tells whether
// that has reached the disk's filesystem; otherwise it does not wait.
func (f *openFile) Close() error {
	if f.closed.Swap(true) {
		return failed("close", f.name, tree.ErrClosed)
	}
	if !f.written.Load() {
		f.s.drop(f.handle)
		return nil
	}
	defer f.s.names.Release(1)
	_, err := f.s.control.do(context.Background(), &protocol.Close{Handle: f.handle}, protocol.TypeOK)
	return failed("close", f.name, err)
}
