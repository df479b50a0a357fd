package sftp

import (
	"errors"
	"fmt"
	"io"
	"math"

	"transferd/internal/tree"
)

// fsync answers fsync@openssh.com: string handle.
func (i *interposer) fsync(id uint32, c *cursor) error {
	name := c.bytes()
	if c.err != nil {
		return c.err
	}
	h, err := i.file(name)
	if err == nil {
		err = h.file.Sync(i.server.ctx)
	}
	i.status(id, err)
	return nil
}

// lsetstat answers lsetstat@openssh.com: string path, attributes. It changes a
// symlink itself.
func (i *interposer) lsetstat(id uint32, c *cursor) error {
	path := *c
	c.bytes()
	asked := c.attrs()
	if c.err != nil {
		return c.err
	}
	change, err := asked.change()
	if err == nil && change.Size != nil {
		err = fmt.Errorf("%w: a link has no size to set", errBadPacket)
	}
	if err == nil {
		err = i.withPath(&path, func(p tree.Path) error {
			return i.server.fs.SetAttr(i.server.ctx, p, change)
		})
	}
	i.status(id, err)
	return nil
}

// limits answers limits@openssh.com, with which a stock client moves 255 KiB a
// request instead of 32.
func (i *interposer) limits(id uint32, _ *cursor) error {
	i.replies.send(func(w *builder) {
		w.begin(typeExtendedReply)
		w.uint32(id)
		w.uint64(maxPacket)
		w.uint64(maxData)                       // of a READ
		w.uint64(maxData)                       // of a WRITE
		w.uint64(uint64(i.server.o.MaxHandles)) //nolint:gosec // Serve made it positive
		w.end()
	})
	return nil
}

// expandPath answers expand-path@openssh.com: string path, "~" and "~user" at
// its beginning being homes.
func (i *interposer) expandPath(id uint32, c *cursor) error {
	text := c.text()
	if c.err != nil {
		return c.err
	}
	i.settle(nil)
	p, err := i.server.expand(text)
	i.answerPath(id, p, err)
	return nil
}

// homeDirectory answers home-directory: string user, "" being who is logged in.
func (i *interposer) homeDirectory(id uint32, c *cursor) error {
	user := c.text()
	if c.err != nil {
		return c.err
	}
	p, err := i.server.homeOf(user)
	i.answerPath(id, p, err)
	return nil
}

func (i *interposer) answerPath(id uint32, p tree.Path, err error) {
	if err != nil {
		i.status(id, err)
		return
	}
	i.replies.send(func(w *builder) {
		w.begin(typeName)
		w.uint32(id)
		w.uint32(1)
		w.text(textOf(p))
		w.text(textOf(p)) // the long name
		w.attrs(attrs{})
		w.end()
	})
}

// statVFS answers statvfs@openssh.com: string path.
func (i *interposer) statVFS(id uint32, c *cursor) error {
	var space tree.Space
	err := i.withPath(c, func(p tree.Path) (err error) {
		space, err = i.server.fs.StatFS(i.server.ctx, p)
		return err
	})
	return i.answerSpace(id, c, space, err)
}

// fstatVFS answers fstatvfs@openssh.com: string handle. A tree tells the space
// by path alone, and a file seldom moves to another file system.
func (i *interposer) fstatVFS(id uint32, c *cursor) error {
	name := c.bytes()
	if c.err != nil {
		return c.err
	}
	h, err := i.file(name)
	var space tree.Space
	if err == nil {
		space, err = i.server.fs.StatFS(i.server.ctx, h.path)
	}
	return i.answerSpace(id, c, space, err)
}

func (i *interposer) answerSpace(id uint32, c *cursor, s tree.Space, err error) error {
	if c.err != nil {
		return c.err
	}
	if err != nil {
		i.status(id, err)
		return nil
	}
	block := s.BlockSize
	if block == 0 {
		block = 4096
	}
	var flags uint64
	if s.ReadOnly {
		flags |= vfsReadOnly
	}
	if s.NoSuid {
		flags |= vfsNoSuid
	}
	i.replies.send(func(w *builder) {
		w.begin(typeExtendedReply)
		w.uint32(id)
		w.uint64(block)
		w.uint64(block) // of a fragment, which the counts are in
		w.uint64(s.Total / block)
		w.uint64(s.Free / block)
		w.uint64(s.Available / block)
		w.uint64(s.Files)
		w.uint64(s.FilesFree)
		w.uint64(s.FilesAvail)
		w.uint64(s.FilesystemID)
		w.uint64(flags)
		w.uint64(s.MaxName)
		w.end()
	})
	return nil
}

// copyData answers copy-data: string from, uint64 offset, uint64 length (0: to
// the end), string to, uint64 offset. It copies inside the server.
func (i *interposer) copyData(id uint32, c *cursor) error {
	from, fromOff, length := c.bytes(), c.uint64(), c.uint64()
	to, toOff := c.bytes(), c.uint64()
	if c.err != nil {
		return c.err
	}
	src, err := i.file(from)
	var dst *handle
	if err == nil {
		dst, err = i.file(to)
	}
	if err == nil && (fromOff > math.MaxInt64 || toOff > math.MaxInt64 || length > math.MaxInt64) {
		err = errBadSize
	}
	if err == nil {
		if length == 0 {
			length = math.MaxInt64
		}
		err = i.server.copyRange(dst, int64(toOff), src, int64(fromOff), int64(length)) //nolint:gosec // checked
	}
	if errors.Is(err, errGone) {
		return err // what came behind it must not find half a copy
	}
	i.status(id, err)
	return nil
}

var (
	// errSameFile: OpenSSH refuses to copy within one file too.
	errSameFile = errors.New("copy of a file onto itself")

	// errGone ends a session whose client is gone.
	errGone = errors.New("the client is gone")
)

// copyRange copies length bytes, or what there is of them.
func (s *server) copyRange(dst *handle, dstOff int64, src *handle, srcOff, length int64) error {
	if !src.readable {
		return errBadHandle
	}
	a, err := src.file.Stat(s.ctx)
	if err != nil {
		return err
	}
	b, err := dst.file.Stat(s.ctx)
	if err != nil {
		return err
	}
	if src == dst || src.path == dst.path || a.Inode != 0 && a.Inode == b.Inode && a.Device == b.Device {
		return errSameFile
	}
	buf := make([]byte, maxPacket)
	for length > 0 {
		select {
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-s.o.Gone:
			return errGone
		default:
		}
		n, err := src.file.ReadAt(buf[:min(length, int64(len(buf)))], srcOff)
		end := errors.Is(err, io.EOF)
		if err != nil && !end {
			return err
		}
		if n > 0 {
			if dstOff > math.MaxInt64-int64(n) {
				return errBadSize
			}
			if werr := dst.write(buf[:n], dstOff); werr != nil {
				return werr
			}
		}
		if end {
			return nil
		}
		srcOff, dstOff, length = srcOff+int64(n), dstOff+int64(n), length-int64(n)
	}
	return nil
}

// namesByID answers users-groups-by-id@openssh.com: string of uint32 user ids,
// string of uint32 group ids. What the session has not seen has no name.
func (i *interposer) namesByID(id uint32, c *cursor) error {
	users, groups := cursor{b: c.bytes()}, cursor{b: c.bytes()}
	if c.err != nil {
		return c.err
	}
	i.settle(nil)
	var known [2]builder
	for n, list := range []struct {
		ids  cursor
		name func(uint32) string
	}{{users, i.server.names.user}, {groups, i.server.names.group}} {
		for len(list.ids.b) > 0 {
			name := list.name(list.ids.uint32())
			if list.ids.err != nil {
				return list.ids.err
			}
			if len(known[n].b)+len(name) > maxPacket/4 {
				i.status(id, errBadPacket)
				return nil
			}
			known[n].text(name)
		}
	}
	i.replies.send(func(w *builder) {
		w.begin(typeExtendedReply)
		w.uint32(id)
		w.bytes(known[0].b)
		w.bytes(known[1].b)
		w.end()
	})
	return nil
}

// Flags of statvfs@openssh.com.
const (
	vfsReadOnly = 1
	vfsNoSuid   = 2
)
