package sftp

import (
	"context"
	"io"
	"iter"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"transferd/internal/tree"
)

// A handle is what a client has opened: a file or a directory. RequestServer
// owns it and closes it once; the interposer finds it by its name.
type handle struct {
	path     tree.Path
	file     tree.File // nil for a directory
	dir      *listing  // nil for a file
	readable bool
	done     func(*handle) // counts it out
	rescue   func(*error)  // deferred in what pkg/sftp calls

	reads int // READs in flight; guarded by the interposer's mu

	read, written atomic.Int64 // bytes
}

// ReadAt implements io.ReaderAt for RequestServer.
func (h *handle) ReadAt(p []byte, off int64) (n int, err error) {
	defer h.rescue(&err)
	n, err = h.file.ReadAt(p, off)
	h.read.Add(int64(n))
	if err != nil && err != io.EOF { //nolint:errorlint // pkg/sftp compares with io.EOF itself
		err = refuse(err)
	}
	return n, err
}

// WriteAt implements io.WriterAt, which RequestServer wants of a file opened
// for writing. It is never reached by a WRITE. It would be by a READ of such a
// handle, which RequestServer carries out as a write of whatever its buffer
// holds: the interposer lets none through, and this makes sure.
func (h *handle) WriteAt([]byte, int64) (int, error) { return 0, refuse(errBadHandle) }

// write is what a WRITE does.
func (h *handle) write(p []byte, off int64) error {
	n, err := h.file.WriteAt(p, off)
	h.written.Add(int64(n))
	return err
}

// Close implements io.Closer.
func (h *handle) Close() (err error) {
	defer h.done(h)
	defer h.rescue(&err)
	if h.dir != nil {
		h.dir.stop()
		return nil
	}
	return refuse(h.file.Close())
}

// ListAt implements pkg/sftp's ListerAt for a directory. RequestServer asks for
// entries strictly one after another, so the offset says nothing new.
func (h *handle) ListAt(infos []os.FileInfo, _ int64) (n int, err error) {
	defer h.rescue(&err)
	return h.dir.next(infos)
}

// A listing reads a directory as far as its client has asked.
type listing struct {
	pull  func() (tree.Entry, error, bool)
	stop  func()
	names *names
	first []tree.Entry // fetched when it was opened
	err   error        // sticky
}

// list begins to read directory p. The first entry is fetched at once, so that
// a directory that cannot be read fails when it is opened.
func (s *server) list(ctx context.Context, p tree.Path) (*listing, error) {
	l := &listing{names: &s.names}
	l.pull, l.stop = iter.Pull2(s.fs.List(ctx, p))
	// OpenSSH's server shows these two, and some clients find out about a
	// directory from its ".".
	for _, dot := range []struct {
		name string
		path tree.Path
	}{{".", p}, {"..", p.Parent()}} {
		if e, err := s.fs.Stat(ctx, dot.path); err == nil {
			e.Name = dot.name
			s.names.learn(e)
			l.first = append(l.first, e)
		}
	}
	e, err, ok := l.pull()
	switch {
	case err != nil:
		l.stop()
		return nil, err
	case ok:
		s.names.learn(e)
		l.first = append(l.first, e)
	default:
		l.err = io.EOF
	}
	return l, nil
}

func (l *listing) next(infos []os.FileInfo) (int, error) {
	n := 0
	for ; n < len(infos) && len(l.first) > 0; n++ {
		infos[n] = info{l.first[0]}
		l.first = l.first[1:]
	}
	for ; n < len(infos) && l.err == nil; n++ {
		e, err, ok := l.pull()
		if !ok {
			l.err = io.EOF
			break
		}
		if err != nil {
			l.err = refuse(err)
			break
		}
		l.names.learn(e)
		infos[n] = info{e}
	}
	if n > 0 {
		return n, nil
	}
	return 0, l.err
}

// info is an entry as pkg/sftp wants it.
type info struct{ e tree.Entry }

func (i info) Name() string       { return i.e.Name }
func (i info) Size() int64        { return i.e.Size }
func (i info) ModTime() time.Time { return i.e.Mtime }
func (i info) IsDir() bool        { return i.e.IsDir() }

func (i info) Mode() os.FileMode {
	mode := i.e.Perm.FileMode()
	switch i.e.Kind {
	case tree.KindDir:
		mode |= os.ModeDir
	case tree.KindSymlink:
		mode |= os.ModeSymlink
	case tree.KindFIFO:
		mode |= os.ModeNamedPipe
	case tree.KindSocket:
		mode |= os.ModeSocket
	case tree.KindCharDevice:
		mode |= os.ModeDevice | os.ModeCharDevice
	case tree.KindBlockDevice:
		mode |= os.ModeDevice
	case tree.KindUnknown:
		mode |= os.ModeIrregular
	case tree.KindFile:
	}
	return mode
}

// maxNames bounds what a session remembers of owners: a directory with more
// different ones shows numbers for the rest.
const maxNames = 4096

// names remembers what owners are called, as the entries of this session told.
// The zero value is ready, and safe for concurrent use.
type names struct {
	mu            sync.Mutex
	users, groups map[uint32]string
}

func (n *names) learn(e tree.Entry) {
	if e.Owner == "" && e.Group == "" {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.users == nil {
		n.users, n.groups = make(map[uint32]string), make(map[uint32]string)
	}
	if e.Owner != "" && len(n.users) < maxNames {
		n.users[e.UID] = e.Owner
	}
	if e.Group != "" && len(n.groups) < maxNames {
		n.groups[e.GID] = e.Group
	}
}

func (n *names) user(id uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.users[id]
}

func (n *names) group(id uint32) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.groups[id]
}
