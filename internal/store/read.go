package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

// Open opens the regular file that p leads to, for reading.
func (s *Store) Open(ctx context.Context, p tree.Path) (tree.Reader, error) {
	return s.openFile(ctx, p, tree.OpenRead, 0)
}

// Extents tells where the data of f lies. A filesystem that cannot tell says
// that everything is data.
func (f *file) Extents(ctx context.Context) ([]tree.Extent, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, err := fileEntry(f.os, "")
	if err != nil {
		return nil, f.fail("find the holes of", err)
	}
	list, err := f.s.hub.extents(f.os, e.Size)
	return list, f.fail("find the holes of", err)
}

func (h *hub) extents(f *os.File, size int64) ([]tree.Extent, error) {
	if size == 0 {
		return nil, nil
	}
	list, err := h.sys.extents(f, size)
	if isUnsupported(err) {
		return []tree.Extent{{Length: size}}, nil
	}
	return list, err
}

// Sum returns the BLAKE3 root of the file that p leads to.
func (s *Store) Sum(ctx context.Context, p tree.Path) (tree.Digest, error) {
	r, err := s.Open(ctx, p)
	if err != nil {
		return tree.Digest{}, err
	}
	defer func() { _ = r.Close() }()
	e, err := r.Stat(ctx)
	if err != nil {
		return tree.Digest{}, err
	}
	chunk := tree.ChunkSizeFor(e.Size)
	values := make([]tree.Value, tree.ChunkCount(e.Size, chunk))
	err = hashChunks(ctx, r, e.Size, chunk, seq(len(values)), func(i int64, v tree.Value, err error) error {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = tree.ErrSourceChanged
		}
		values[i] = v
		return err
	})
	if err != nil {
		return tree.Digest{}, s.fail("sum", p, err)
	}
	return tree.MergeValues(values), nil
}

func seq(n int) []int64 {
	list := make([]int64, n)
	for i := range list {
		list[i] = int64(i)
	}
	return list
}

// hashers is how many chunks are read and hashed at once: one core hashes more
// than most disks read, two hide the reading.
const hashers = 2

// hashChunks reads and hashes the chunks of r that indexes name, several at
// once, and calls done for each, from several goroutines, each index once. A
// chunk that cannot be read comes with its error. An error of done ends it.
func hashChunks(ctx context.Context, r io.ReaderAt, size, chunkSize int64, indexes []int64, done func(int64, tree.Value, error) error) error {
	count := tree.ChunkCount(size, chunkSize)
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(hashers, len(indexes)) {
		group.Go(func() error {
			buf := make([]byte, min(chunkSize, max(size, 1)))
			for {
				n := next.Add(1) - 1
				if n >= int64(len(indexes)) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				i := indexes[n]
				x := tree.ChunkExtent(i, size, chunkSize)
				if err := readFull(r, buf[:x.Length], x.Offset); err != nil {
					if err := done(i, tree.Value{}, err); err != nil {
						return err
					}
					continue
				}
				if err := done(i, tree.ChunkValue(buf[:x.Length], i, chunkSize, count == 1), nil); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w at %d", io.ErrUnexpectedEOF, off+int64(n))
	}
	return err
}

// lookup opens what p leads to, and tells what was there.
func (s *Store) lookup(p tree.Path, flags int, perm tree.Perm, followLast bool) (*os.File, error) {
	for range maxLinks {
		at, e, found, err := s.aim(p, followLast)
		if err != nil {
			return nil, err
		}
		special := found && s.isHost() && (e.Kind == tree.KindCharDevice || e.Kind == tree.KindBlockDevice)
		switch {
		case !found && flags&os.O_CREATE == 0:
			_ = at.dir.Close()
			return nil, fs.ErrNotExist
		case found && flags&os.O_EXCL != 0:
			_ = at.dir.Close()
			return nil, fs.ErrExist
		case found && e.Kind != tree.KindFile && e.Kind != tree.KindSymlink && !special:
			_ = at.dir.Close()
			return nil, notRegular(e.Kind, nil)
		}
		f, err := at.dir.open(at.name, flags, perm, special)
		_ = at.dir.Close()
		if followLast && isLink(err) {
			continue // it became a symlink between the look and the open
		}
		return f, err
	}
	return nil, errTooManyLinks
}

// aim is follow or, where a last symlink is not followed, locate.
func (s *Store) aim(p tree.Path, followLast bool) (place, tree.Entry, bool, error) {
	if followLast {
		return s.follow(p)
	}
	at, err := s.locate(p)
	if err != nil {
		return place{}, tree.Entry{}, false, err
	}
	e, err := at.dir.lstat(at.name)
	if err != nil && !isNotExist(err) {
		_ = at.dir.Close()
		return place{}, tree.Entry{}, false, err
	}
	return at, e, err == nil, nil
}
