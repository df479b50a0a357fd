package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"

	"transferd/internal/tree"
)

// Begin implements tree.Sink. A symlink that u.Path names is followed: the file
// it leads to is replaced, the link stays.
func (c *Client) Begin(ctx context.Context, u tree.Upload) (tree.Writer, error) {
	return c.begin(ctx, u, true)
}

func (c *Client) begin(ctx context.Context, u tree.Upload, follow bool) (tree.Writer, error) {
	if u.Path == tree.Root {
		return nil, pathError("write", c.name(u.Path), tree.ErrIsDir)
	}
	if u.ChunkSize <= 0 {
		u.ChunkSize = tree.ChunkSizeFor(u.Size)
	}
	w, err := on(ctx, c, "write", u.Path, func(l *lane) (*upload, error) {
		b := beginning{c: c, l: l, u: u, follow: follow, target: remote(u.Path)}
		w, err := b.start(ctx)
		return w, l.orDisk(ctx, err, parentPath(b.target), true)
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// A beginning is an upload that is about to be opened.
type beginning struct {
	c      *Client
	l      *lane
	u      tree.Upload
	follow bool   // a symlink at target is what the user means
	target string // as the server spells it
}

// resumable reports whether it is worth to remember what arrived.
func (b *beginning) resumable() bool {
	return b.c.o.Journals != nil && b.u.Size > b.u.ChunkSize
}

func (b *beginning) start(ctx context.Context) (*upload, error) {
	if b.resumable() || b.u.InPlace {
		return b.look(ctx)
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return nil, err
	}
	w, err := b.small(ctx)
	if err != nil {
		unlock()
		return nil, err
	}
	w.unlock = unlock
	return w, nil
}

// lock keeps another run of the same upload from removing a partial that has no
// journal, and making it anew, while this one is about to publish it.
func (b *beginning) lock(ctx context.Context) (unlock func(), err error) {
	if b.c.o.Journals == nil {
		return func() {}, nil
	}
	return b.c.o.Journals.Lock(ctx, b.key(b.partial()))
}

// key names the upload to partial part among those of this machine.
func (b *beginning) key(part string) string {
	return fmt.Sprintf("%s\n%s\n%s", b.c.o.User, part, b.u.Origin)
}

// small begins an upload that has no journal.
func (b *beginning) small(ctx context.Context) (*upload, error) {
	// The target is looked at and the partial made in one round
	// trip, as if the target were nothing special. It hardly ever is.
	looked := newCall()
	if err := b.l.send(ctx, queryOn(typeLstat, b.target), looked); err != nil {
		return nil, err
	}
	part, h, stale, err := b.createFree(ctx)
	if werr := looked.wait(ctx); werr != nil {
		return nil, errors.Join(err, werr)
	}
	was, lookErr := looked.attrs()
	where, special, lookErr := b.judge(was, lookErr)
	if err == nil && (special || lookErr != nil) {
		b.l.post(queryOn(typeClose, h))
		err = b.l.status(ctx, queryOn(typeRemove, part))
		lookErr = errors.Join(lookErr, err)
	}
	switch {
	case lookErr != nil:
		return nil, lookErr
	case special:
		return b.look(ctx)
	case err != nil:
		return nil, err
	}
	w := b.upload(ctx, where, part, was, h, nil)
	w.stale = stale
	return w, nil
}

// judge says where a target of attributes was, which looking at gave err, is
// written; special means that it cannot be a partial beside it.
func (b *beginning) judge(was attrs, err error) (where place, special bool, _ error) {
	if errors.Is(err, fs.ErrNotExist) {
		return placePartial, false, nil
	}
	if err != nil {
		return placePartial, false, err
	}
	switch kindOf(was.mode) {
	case tree.KindDir:
		return placePartial, false, tree.ErrIsDir
	case tree.KindSymlink:
		return placePartial, b.follow, nil
	case tree.KindCharDevice, tree.KindBlockDevice:
		return placeDevice, true, nil
	case tree.KindFIFO, tree.KindSocket:
		return placeStream, true, nil
	case tree.KindFile, tree.KindUnknown:
	}
	return placePartial, false, nil
}

// look finds out what the target is before anything is opened.
func (b *beginning) look(ctx context.Context) (*upload, error) {
	was, err := b.l.stat(ctx, queryOn(typeLstat, b.target))
	if err == nil && kindOf(was.mode) == tree.KindSymlink && b.follow {
		if b.target, err = b.l.realPath(ctx, b.target); err != nil {
			return nil, fmt.Errorf("follow the symlink: %w", err)
		}
		b.follow = false
		was, err = b.l.stat(ctx, queryOn(typeLstat, b.target))
	}
	where, _, err := b.judge(was, err)
	switch {
	case err != nil:
		return nil, err
	case where != placePartial:
		return b.special(ctx, where, was)
	case b.u.InPlace:
		return b.open(ctx, placeFile, b.target, was)
	}
	return b.open(ctx, placePartial, b.partial(), was)
}

// partial is the path of the partial beside the target.
func (b *beginning) partial() string { return b.partialOf(b.u.Origin) }

func (b *beginning) partialOf(origin string) string {
	p, err := tree.ParsePath(b.target)
	if err != nil {
		return b.target // not reached: what the server resolves has no NUL
	}
	return remote(p.Parent().Join(tree.PartialName(origin, p.Base()) + partSuffix))
}

// special opens a device, FIFO or socket. The server takes offsets on neither
// of the latter unless it is told to append.
func (b *beginning) special(ctx context.Context, where place, was attrs) (*upload, error) {
	flags := uint32(openWrite)
	if where == placeStream {
		if b.u.Sparse {
			return nil, fmt.Errorf("%w: a file with holes cannot go to a FIFO", tree.ErrNotRegular)
		}
		flags |= openAppend
	}
	h, err := b.l.openHandle(ctx, queryOn(typeOpen, b.target).uint32(flags).attrs(attrs{}))
	if err != nil {
		return nil, err
	}
	return b.upload(ctx, where, b.target, was, h, nil), nil
}

// open continues what the journal remembers, or begins anew.
func (b *beginning) open(ctx context.Context, where place, part string, was attrs) (*upload, error) {
	var j tree.Journal
	if b.resumable() {
		head := tree.JournalHeader{Size: b.u.Size, ChunkSize: b.u.ChunkSize, Source: b.u.Source}
		var err error
		if j, err = b.c.o.Journals.OpenJournal(ctx, b.key(part), head); err != nil {
			return nil, err
		}
	}
	w, err := b.openWith(ctx, where, part, was, j)
	if err != nil && j != nil {
		err = errors.Join(err, j.Close())
	}
	return w, err
}

func (b *beginning) openWith(ctx context.Context, where place, part string, was attrs, j tree.Journal) (*upload, error) {
	if j != nil {
		have := maps.Collect(j.Have())
		h, err := b.resume(ctx, part, j, have)
		if err != nil {
			return nil, err
		}
		if h != "" {
			w := b.upload(ctx, where, part, was, h, j)
			w.have, w.unchanged = have, j.Unchanged()
			return w, nil
		}
	}
	var h string
	var err error
	if where == placePartial {
		h, err = b.create(ctx, part)
	} else {
		flags := uint32(openRead | openWrite | openCreate | openTrunc)
		h, err = b.l.openHandle(ctx, queryOn(typeOpen, part).uint32(flags).attrs(attrs{}))
	}
	if err != nil {
		return nil, err
	}
	if b.u.Sparse && b.u.Size > 0 {
		// Full length from the start: a chunk that ends in a hole does not make
		// the file longer, and a partial that is too short has lost something.
		if err := b.l.status(ctx, queryOn(typeFsetstat, h).attrs(attrsFor(tree.Attr{Size: &b.u.Size}))); err != nil {
			b.l.post(queryOn(typeClose, h))
			return nil, fmt.Errorf("set the size: %w", err)
		}
	}
	return b.upload(ctx, where, part, was, h, j), nil
}

// resume opens the partial that have was recorded of. It returns no handle if
// there is nothing to continue, and then nothing is remembered either.
func (b *beginning) resume(ctx context.Context, part string, j tree.Journal, have map[int64]tree.Value) (string, error) {
	if len(have) == 0 {
		return "", nil
	}
	var lost []int64
	h := ""
	a, err := b.l.stat(ctx, queryOn(typeLstat, part))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	case err != nil, !b.u.Resume,
		kindOf(a.mode) != tree.KindFile, a.flags&attrSize == 0, a.size > uint64(b.u.Size), //nolint:gosec // the size is known
		// Under the holes of a changed source there may be data of the old one.
		b.u.Sparse && !j.Unchanged():
		for i := range have {
			lost = append(lost, i)
		}
	default:
		for i := range have {
			// A file that is shorter than what was durable was cut by somebody.
			if tree.ChunkExtent(i, b.u.Size, b.u.ChunkSize).End() > int64(a.size) { //nolint:gosec // compared above
				lost = append(lost, i)
			}
		}
		h, err = b.l.openHandle(ctx, queryOn(typeOpen, part).uint32(openRead|openWrite).attrs(attrs{}))
		if err != nil {
			return "", err
		}
	}
	for _, i := range lost {
		delete(have, i)
	}
	if len(lost) > 0 {
		if err := j.Forget(lost); err != nil {
			if h != "" {
				b.l.post(queryOn(typeClose, h))
			}
			return "", err
		}
	}
	return h, nil
}

// freeNames is how many names of partials are tried before one is taken again.
const freeNames = 4

// createFree makes a partial under a name that nothing has. After a kill the
// server may still be at what the killed run had asked for, the rename of its
// partial included; under the same name it would publish ours, not yet complete.
// It returns the partials that were in the way, to be removed at the end.
func (b *beginning) createFree(ctx context.Context) (part, h string, stale []string, err error) {
	for n := range freeNames {
		part = b.partial()
		if n > 0 {
			part = b.partialOf(fmt.Sprintf("%s\x00%d", b.u.Origin, n))
		}
		h, err = b.createNew(ctx, part)
		if err == nil || (!isFailure(err) && !errors.Is(err, fs.ErrExist)) {
			return part, h, stale, err
		}
		stale = append(stale, part)
	}
	h, err = b.create(ctx, part)
	return part, h, stale[:len(stale)-1], err
}

// create makes a partial that was not there before. One from an earlier run,
// or whatever has its name, makes way.
func (b *beginning) create(ctx context.Context, part string) (string, error) {
	h, err := b.createNew(ctx, part)
	if err == nil || (!isFailure(err) && !errors.Is(err, fs.ErrExist)) {
		return h, err
	}
	if rerr := b.l.status(ctx, queryOn(typeRemove, part)); rerr != nil {
		return "", err // it was not in the way after all
	}
	return b.createNew(ctx, part)
}

func (b *beginning) createNew(ctx context.Context, part string) (string, error) {
	// Readable too, to compare it; nobody else may see it before it is complete.
	private := attrs{flags: attrPerm, mode: 0o600}
	return b.l.openHandle(ctx, queryOn(typeOpen, part).uint32(openRead|openWrite|openCreate|openExcl).attrs(private))
}

// upload makes the writer of what was opened.
func (b *beginning) upload(ctx context.Context, where place, part string, was attrs, h string, j tree.Journal) *upload {
	w := &upload{
		c: b.c, u: b.u, j: j, target: b.target, part: part, place: where, was: was,
		f: newFile(b.c, b.l, part, h), have: map[int64]tree.Value{},
		// Of a file that was made just now there is nothing from another source.
		unchanged: where == placePartial || where == placeFile,
		again:     map[int64]struct{}{}, ready: batch{values: map[int64]tree.Value{}},
	}
	w.init()
	w.f.flags = openRead | openWrite
	w.f.spread = (b.u.Size < 0 || b.u.Size >= spreadFrom) && (where == placePartial || where == placeFile)
	if j != nil {
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		w.stop = cancel
		w.flusher.Go(func() { w.flushing(ctx) })
	}
	return w
}
