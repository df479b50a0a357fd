package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"golang.org/x/sys/unix"

	"transferd/internal/tree"
)

// A smallFile is a file on its way to its name.
type smallFile struct {
	s    *Store
	f    *tree.Small
	d    *heldDir
	name string
	fd   int    // of the file, which has no name until it is published
	part string // or only this one, where it replaces another
	temp string // what a test calls it meanwhile
	err  error

	turn chan bool // size 1: true: lead the next group; false: it is done
}

// errGone: the directory that is held may have been removed, and another one
// have its name.
var errGone = errors.New("directory removed")

// putFast writes f into a file without a name and gives it one when its bytes
// are durable. It is errAlone where that is not the way.
func (s *Store) putFast(ctx context.Context, f *tree.Small) (tree.Receipt, error) {
	parent, name := split(string(f.Path))
	if name == "." {
		return tree.Receipt{}, tree.ErrIsDir
	}
	if s.hub.sys.makeTemp == nil {
		return tree.Receipt{}, errAlone
	}
	// As many handles as this, and not one for every file that somebody sends.
	select {
	case s.hub.puts.temps <- struct{}{}:
	case <-ctx.Done():
		return tree.Receipt{}, ctx.Err()
	}
	defer func() { <-s.hub.puts.temps }()
	d, err := s.hold(parent)
	if err != nil {
		return tree.Receipt{}, err
	}
	defer s.held.letGo(d)
	if !d.known {
		return tree.Receipt{}, errAlone
	}
	p := &smallFile{s: s, f: f, d: d, name: name, fd: -1}
	err = p.run(ctx)
	if isNotExist(err) || errors.Is(err, errGone) {
		s.held.forget(parent)
		err = errAlone
	}
	return tree.Receipt{Verified: tree.VerifiedDigest, Volatile: f.Fsync == tree.FsyncOff}, s.diskFull(d.dir, f.Path, err)
}

func (p *smallFile) run(ctx context.Context) error {
	if err := p.checkPartial(); err != nil {
		return err
	}
	if err := p.write(); err != nil {
		return err
	}
	defer func() { _ = unix.Close(p.fd) }()
	err := p.finish()
	if errors.Is(err, fs.ErrExist) {
		err = p.over(ctx)
	}
	return err
}

// finish makes the file durable, then gives it its name, and makes that
// durable.
func (p *smallFile) finish() error {
	h := p.s.hub
	switch p.f.Fsync {
	case tree.FsyncOff:
		return p.publish()
	case tree.FsyncAlways:
		if err := p.sync(); err != nil {
			return err
		}
		if err := p.publish(); err != nil {
			return err
		}
		if err := p.sync(); err != nil { // see syncNames
			return err
		}
		return h.syncDir(p.d.dir)
	case tree.FsyncAuto:
	}
	return h.puts.finish(h, p)
}

// checkPartial leaves what another run of this upload has left, or is at, to
// Begin.
func (p *smallFile) checkPartial() error {
	if p.d.isClean(p.s.hub) {
		return nil
	}
	stem := tree.PartialName(p.f.Origin, p.name)
	for _, suffix := range [...]string{partSuffix, journalSuffix} {
		there, err := p.d.exists(stem + suffix)
		if err != nil {
			return err
		}
		if there {
			return errAlone
		}
	}
	return nil
}

// write makes the file, with everything that it shall have but its name.
func (p *smallFile) write() error {
	h := p.s.hub
	perm := p.perm()
	// A file without a name is nobody else's, whatever its mode, so it may have
	// its last one from the beginning, where that comes out as it is asked for.
	mode, later := perm, (*tree.Perm)(nil)
	if !p.d.plain || perm&h.umask() != 0 || perm > 0o777 || len(p.f.Attr.Xattrs) > 0 {
		mode, later = 0o600, &perm
	}
	if h.trace != nil {
		p.temp = "#" + strconv.FormatUint(h.puts.temp.Add(1), 10)
	}
	if err := h.before(step{op: stepCreate, dir: p.d.dir, name: p.temp}); err != nil {
		return err
	}
	fd, err := h.sys.makeTemp(p.d.dir, mode)
	switch {
	case isUnsupported(err):
		return errAlone
	case errors.Is(err, fs.ErrPermission):
		return errGone // so ext4 says it
	case err != nil:
		return err
	}
	p.fd = fd
	err = h.before(step{op: stepWrite, dir: p.d.dir, name: p.temp, data: p.f.Data})
	if err == nil {
		err = h.sys.writeTemp(fd, p.f.Data)
	}
	if err == nil {
		err = h.setTempAttr(fd, &p.f.Attr, later)
	}
	if err != nil {
		_ = unix.Close(fd)
	}
	return err
}

// perm is the mode that the file shall have.
func (p *smallFile) perm() tree.Perm {
	perm := 0o666 &^ p.s.hub.umask()
	if p.f.Attr.Perm != nil {
		perm = *p.f.Attr.Perm
	} else if e, err := p.d.lstat(p.name); err == nil && e.Kind == tree.KindFile {
		perm = e.Perm &^ setIDs // these were given to the old bytes
	}
	return p.s.hub.allowedPerm(perm, tree.Entry{Kind: tree.KindFile})
}

func (p *smallFile) sync() error {
	if err := p.s.hub.before(step{op: stepSync, dir: p.d.dir, name: p.temp}); err != nil {
		return err
	}
	return p.s.hub.sys.syncTemp(p.fd)
}

// over gives the file its name where something had that a moment ago.
func (p *smallFile) over(ctx context.Context) error {
	for range 100 { // each round somebody else has made or removed the name
		// Who is gone must not replace what came after.
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := p.d.lstat(p.name)
		switch {
		case isNotExist(err):
			if err := p.finish(); !errors.Is(err, fs.ErrExist) {
				return err
			}
			continue
		case err != nil:
			return err
		case e.IsDir():
			return tree.ErrIsDir
		case e.Kind != tree.KindFile && (e.Kind != tree.KindSymlink || p.s.isHost()):
			return errAlone
		case p.f.NoReplace:
			return fs.ErrExist
		}
		return p.replace(ctx)
	}
	return fmt.Errorf("%w: its name is made and removed all the time", tree.ErrBusy)
}

func (p *smallFile) link(name string) error {
	h := p.s.hub
	if err := h.before(step{op: stepLink, dir: p.d.dir, name: p.temp, to: name}); err != nil {
		return err
	}
	return h.sys.linkTemp(p.fd, p.d.dir, name)
}

// publish gives the file its name in one step.
func (p *smallFile) publish() error {
	if p.part == "" {
		return p.link(p.name)
	}
	if !isFile(p.d.dir, p.part, p.fd) {
		return fmt.Errorf("%w: its partial was replaced", tree.ErrBusy)
	}
	if err := p.s.hub.before(step{op: stepRename, dir: p.d.dir, name: p.part, to: p.name}); err != nil {
		return err
	}
	return p.d.rename(p.part, p.d.dir, p.name)
}

// replace puts the file in the place of one that is there. For that it needs a
// name to be renamed from, and durably, for what has none is thrown away by
// recovery: that of its partial, so that what a crash leaves is found, and
// with its lock, so that nobody takes it for theirs.
func (p *smallFile) replace(ctx context.Context) error {
	h := p.s.hub
	key := claimKey{dir: p.d.self, name: tree.PartialName(p.f.Origin, p.name)}
	cl := h.claims.try(key)
	if cl == nil {
		return errAlone
	}
	defer h.claims.drop(key, cl)
	if err := unix.Flock(p.fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errAlone
	}
	part := key.name + partSuffix
	parent, _ := split(string(p.f.Path))
	h.begun.Add(1)
	h.index.add(ctx, p.s, parent)
	if err := p.link(part); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return errAlone
		}
		return err
	}
	p.part = part
	err := p.finish()
	if err != nil && isFile(p.d.dir, part, p.fd) {
		err = errors.Join(err, h.removeStep(p.d.dir, part))
	}
	return err
}
