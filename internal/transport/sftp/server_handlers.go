package sftp

import (
	"errors"
	"io"
	"os"
	"strconv"

	pkgsftp "github.com/pkg/sftp"

	"transferd/internal/tree"
)

// handlers answers what the interposer hands on to pkg/sftp's RequestServer.
// RequestServer calls it from one goroutine for everything but reads.
type handlers struct {
	*server
	interposer *interposer
}

var (
	_ pkgsftp.FileReader           = (*handlers)(nil)
	_ pkgsftp.OpenFileWriter       = (*handlers)(nil)
	_ pkgsftp.PosixRenameFileCmder = (*handlers)(nil)
	_ pkgsftp.ReadlinkFileLister   = (*handlers)(nil)
	_ pkgsftp.RealPathFileLister   = (*handlers)(nil)
	_ pkgsftp.NameLookupFileLister = (*handlers)(nil)
)

// Fileread opens a file for reading.
func (h *handlers) Fileread(r *pkgsftp.Request) (io.ReaderAt, error) { return h.open(r) }

// Filewrite opens a file for writing.
func (h *handlers) Filewrite(r *pkgsftp.Request) (io.WriterAt, error) { return h.open(r) }

// OpenFile opens a file for both.
func (h *handlers) OpenFile(r *pkgsftp.Request) (pkgsftp.WriterAtReaderAt, error) { return h.open(r) }

func (h *handlers) open(r *pkgsftp.Request) (f *handle, err error) {
	defer h.rescue(&err)
	asked := h.interposer.nextOpen()
	p, err := tree.ParsePath(r.Filepath)
	if err != nil {
		return nil, h.refuse(err)
	}
	return h.admit(p, func() (*handle, error) {
		flags := treeFlags(asked.flags)
		f, err := h.fs.OpenFile(h.ctx, p, flags, h.perm(asked.attrs, 0o666))
		if err != nil {
			return nil, err
		}
		return &handle{path: p, file: f, readable: flags&tree.OpenRead != 0}, nil
	})
}

// treeFlags translates the flags of OPEN.
func treeFlags(flags uint32) tree.OpenFlags {
	var f tree.OpenFlags
	if flags&openRead != 0 {
		f |= tree.OpenRead
	}
	if flags&openWrite != 0 {
		f |= tree.OpenWrite
	}
	if flags&openAppend != 0 {
		f |= tree.OpenWrite | tree.OpenAppend
	}
	if flags&openCreate != 0 {
		f |= tree.OpenCreate
	}
	if flags&openTrunc != 0 {
		f |= tree.OpenTruncate
	}
	if flags&openExcl != 0 {
		f |= tree.OpenExclusive
	}
	return f
}

// admit opens a handle if one more is allowed, and tells the interposer.
func (h *handlers) admit(p tree.Path, open func() (*handle, error)) (*handle, error) {
	i := h.interposer
	if !i.reserve() {
		return nil, h.refuse(errTooManyHandles)
	}
	admitted := false
	defer func() {
		if !admitted { // also when open panics
			i.release()
		}
	}()
	f, err := open()
	if err != nil {
		return nil, h.refuse(err)
	}
	admitted = true
	f.rescue = h.rescue
	f.done = func(f *handle) {
		i.release()
		if f.file != nil {
			h.o.Log.InfoContext(h.ctx, "file closed", "path", p.String(), "bytes_read", f.read.Load(), "bytes_written", f.written.Load())
		}
	}
	i.opened(f)
	return f, nil
}

// Filelist opens a directory. pkg/sftp asks it for STAT and LSTAT too, but the
// interposer answers those.
func (h *handlers) Filelist(r *pkgsftp.Request) (dir pkgsftp.ListerAt, err error) {
	defer h.rescue(&err)
	if r.Method != "List" {
		return nil, h.refuse(errors.ErrUnsupported)
	}
	p, err := tree.ParsePath(r.Filepath)
	if err != nil {
		return nil, h.refuse(err)
	}
	return h.admit(p, func() (*handle, error) {
		dir, err := h.list(h.ctx, p)
		if err != nil {
			return nil, err
		}
		return &handle{path: p, dir: dir}, nil
	})
}

// Readlink returns the target of a symlink.
func (h *handlers) Readlink(name string) (target string, err error) {
	defer h.rescue(&err)
	p, err := tree.ParsePath(name)
	if err != nil {
		return "", h.refuse(err)
	}
	target, err = h.readlink(p)
	return target, h.refuse(err)
}

// RealPath resolves what a client wrote, as it wrote it.
func (h *handlers) RealPath(name string) (path string, err error) {
	defer h.rescue(&err)
	p, err := h.resolve(name)
	if err != nil {
		return "", h.refuse(err)
	}
	return textOf(p), nil
}

// LookupUserName names the owner uid, a number, in long names.
func (h *handlers) LookupUserName(uid string) string { return lookup(uid, h.names.user) }

// LookupGroupName names the group gid, a number, in long names.
func (h *handlers) LookupGroupName(gid string) string { return lookup(gid, h.names.group) }

func lookup(number string, name func(uint32) string) string {
	if id, err := strconv.ParseUint(number, 10, 32); err == nil {
		if known := name(uint32(id)); known != "" {
			return known
		}
	}
	return number
}

// Filecmd carries out what changes names.
func (h *handlers) Filecmd(r *pkgsftp.Request) (err error) {
	defer h.rescue(&err)
	if r.Method == "Symlink" { // the target is any text, the name is the new link
		p, err := tree.ParsePath(r.Target)
		if err != nil {
			return h.refuse(err)
		}
		return h.refuse(h.fs.Symlink(h.ctx, r.Filepath, p))
	}
	p, err := tree.ParsePath(r.Filepath)
	if err != nil {
		return h.refuse(err)
	}
	switch r.Method {
	case "Setstat":
		c := cursor{b: r.Attrs}
		change, err := c.attrFields(r.Flags).change()
		if err != nil {
			return h.refuse(err)
		}
		return h.refuse(h.setAttr(p, change))
	case "Remove":
		return h.refuse(h.remove(p, false))
	case "Rmdir":
		return h.refuse(h.remove(p, true))
	case "Rename":
		return h.rename(p, r.Target, tree.RenameNoReplace)
	case "Link":
		to, err := tree.ParsePath(r.Target)
		if err != nil {
			return h.refuse(err)
		}
		return h.refuse(h.fs.Link(h.ctx, p, to))
	}
	return h.refuse(errors.ErrUnsupported)
}

// PosixRename renames and replaces.
func (h *handlers) PosixRename(r *pkgsftp.Request) (err error) {
	defer h.rescue(&err)
	p, err := tree.ParsePath(r.Filepath)
	if err != nil {
		return h.refuse(err)
	}
	return h.rename(p, r.Target, tree.RenameReplace)
}

func (h *handlers) rename(from tree.Path, target string, how tree.RenameMode) error {
	to, err := tree.ParsePath(target)
	if err != nil {
		return h.refuse(err)
	}
	return h.refuse(h.fs.Rename(h.ctx, from, to, how))
}

// refuse returns the refusal that tells of err, nil for nil.
func (h *handlers) refuse(err error) error {
	h.note(err)
	return refuse(err)
}

// A refusal is an error as pkg/sftp shall tell it to the client: it sends the
// text as it is, and takes the code from what is wrapped.
type refusal struct{ status }

// refuse returns the refusal that tells of err, nil for nil.
func refuse(err error) error {
	if err == nil {
		return nil
	}
	return refusal{statusOf(err)}
}

func (r refusal) Error() string { return r.text }

// Unwrap returns pkg/sftp's error of the same code.
func (r refusal) Unwrap() error {
	switch r.code {
	case codeOK:
		return pkgsftp.ErrSSHFxOk
	case codeEOF:
		return pkgsftp.ErrSSHFxEOF
	case codeNoSuchFile:
		return pkgsftp.ErrSSHFxNoSuchFile
	case codePermissionDenied:
		return pkgsftp.ErrSSHFxPermissionDenied
	case codeBadMessage:
		return pkgsftp.ErrSSHFxBadMessage
	case codeNoConnection:
		return pkgsftp.ErrSSHFxNoConnection
	case codeConnectionLost:
		return pkgsftp.ErrSSHFxConnectionLost
	case codeUnsupported:
		return pkgsftp.ErrSSHFxOpUnsupported
	case codeFailure:
	}
	return pkgsftp.ErrSSHFxFailure
}

var _ os.FileInfo = info{}
