package transfer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"transferd/internal/tree"
)

const (
	// remoteFiles is how many files are in flight when a network is between:
	// each costs a few round trips, which only other files can hide.
	remoteFiles = 32

	// localFiles is enough to let one disk group its syncs.
	localFiles = 16

	// smallFiles is how many are in flight where each takes one round trip
	// altogether: 10,000 of them over 50 ms in half a second. Their bytes are
	// bounded by chunkMemory.
	smallFiles = 1000

	// walkers is how many directories are listed and made at once: each costs a
	// few round trips too.
	walkers = 32

	// chunkMemory bounds the bytes of file contents held at once.
	chunkMemory = 32 << 20
)

// Copy copies srcs to dst, whose tree must be a tree.Sink, and returns when
// everything that could be copied has its final name: the files durably, made
// directories and symlinks once the caller has closed the tree. When some files
// fail the others go on and the error is a *PartialError. A full disk, a lost
// connection that did not come back, and the end of ctx stop the copy; what had
// arrived is kept, and the same call continues there.
func Copy(ctx context.Context, dst Place, srcs []Place, o Options) (Summary, error) {
	c, err := newCopier(dst, srcs, o)
	if err != nil {
		return Summary{}, err
	}
	start := time.Now()
	err = c.run(ctx, srcs)
	s := c.summary()
	s.Duration = time.Since(start)
	if err != nil {
		s.Left = c.left()
	}
	if err == nil && s.Failed > 0 {
		c.mu.Lock()
		defer c.mu.Unlock()
		err = &PartialError{Failed: s.Failed, Done: s.Files + s.Skipped, Errs: c.errs}
	}
	return s, err
}

// A copier is one run of Copy.
type copier struct {
	// config
	opt    Options
	dst    Place
	sink   tree.Sink
	filter filter

	// state
	group   *errgroup.Group // whatever runs
	walks   sync.WaitGroup  // of it what finds files
	walkers chan struct{}   // a slot for each walk beside the first
	crew    *crew           // for what takes a round trip or two
	large   chan struct{}   // a slot for each file that takes more
	local   chan struct{}   // a slot for each small file that is read from this machine's disk
	memory  *semaphore.Weighted
	pace    *pace
	bufs    buffers
	ids     atomic.Int64
	names   *names        // what the destination directory holds; nil: not listed
	roots   []*copiedTree // to be finished when all files are done, and closed
	links   links         // of operands
	said    said

	files, skipped, failed, sent, resumed atomic.Int64
	settled                               atomic.Int64 // of the found files, in whatever way

	mu    sync.Mutex // guards what follows
	found Found
	errs  []error
}

func newCopier(dst Place, srcs []Place, o Options) (*copier, error) {
	sink, ok := dst.Tree.(tree.Sink)
	if !ok {
		return nil, fmt.Errorf("%s: %w: not writable", dst.Label, errors.ErrUnsupported)
	}
	f, err := newFilter(o.Include, o.Exclude)
	if err != nil {
		return nil, err
	}
	between := false // a network is
	for _, p := range append([]Place{dst}, srcs...) {
		between = between || transportOf(p.Tree) != ""
	}
	c := &copier{opt: o, dst: dst, sink: sink, filter: f, memory: semaphore.NewWeighted(chunkMemory)}
	most := o.Files
	switch {
	case most > 0:
		c.walkers = make(chan struct{}, most-1)
	case between:
		most, c.walkers = remoteFiles, make(chan struct{}, walkers)
	default:
		most, c.walkers = localFiles, make(chan struct{}, localFiles)
	}
	c.large, c.local, c.crew = make(chan struct{}, most), make(chan struct{}, min(most, localFiles)), newCrew(most)
	if !between {
		// A network is limited where its bytes can be counted: on the wire.
		c.pace = newPace(o.Bandwidth)
	}
	return c, nil
}

// run copies the operands one after another; their files overlap.
func (c *copier) run(ctx context.Context, srcs []Place) error {
	group, gctx := errgroup.WithContext(ctx)
	c.group, c.crew.group = group, group

	c.walks.Add(1)
	group.Go(func() error {
		defer c.walks.Done()
		return c.plan(gctx, srcs)
	})
	group.Go(func() error {
		c.walks.Wait()
		if gctx.Err() == nil {
			c.foundAll()
		}
		c.crew.dismiss()
		return nil
	})
	// A failed file returns an error here only if it must stop all others.
	err := group.Wait()
	if err == nil {
		err = c.finishRoots(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	for _, t := range c.roots {
		err = errors.Join(err, t.close())
	}
	return err
}

// plan decides where each operand lands and starts its copies.
func (c *copier) plan(ctx context.Context, srcs []Place) error {
	lands, err := c.land(ctx, srcs)
	if err != nil {
		return err
	}
	for _, l := range lands {
		if err := c.operand(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// operand copies one operand of the command. Its own failure does not stop the
// others.
func (c *copier) operand(ctx context.Context, l landing) error {
	switch {
	case l.err != nil:
		return c.fail(ctx, nil, 0, l.src.Label, l.err)
	case l.entry.IsDir():
		return c.directory(ctx, l)
	case l.entry.Kind != tree.KindFile:
		return c.fail(ctx, nil, 0, l.src.Label, fmt.Errorf("%s: %w: %s", l.src.Label, tree.ErrNotRegular, l.entry.Kind))
	}
	j := &job{
		src: l.src.Tree, from: l.src.Path, dst: c.sink, to: l.to,
		label:  l.src.Label,
		origin: l.src.origin(c.opt.Machine, l.src.Path),
		entry:  l.entry,
		untidy: true,
		ways:   c.waysOf(ctx, l.src.Host, l.src.Tree, c.sink, &c.links),
	}
	var err error
	if j.there, j.linked, err = c.existing(ctx, l.to); err != nil {
		return c.fail(ctx, nil, 0, j.label, err)
	}
	c.find(1, j.entry.Size)
	return c.queue(ctx, j)
}

// existing describes what p of the destination leads to, nil if that is
// nothing, and whether p is a symlink.
func (c *copier) existing(ctx context.Context, p tree.Path) (there *tree.Entry, linked bool, err error) {
	if c.names != nil && p.Parent() == c.dst.Path {
		e := c.names.get(p.Base())
		if e == nil || e.Kind != tree.KindSymlink {
			return e, false, nil
		}
	}
	look := func(stat func(context.Context, tree.Path) (tree.Entry, error)) (*tree.Entry, error) {
		e, err := retryValue(ctx, c, p.String(), func() (tree.Entry, error) { return stat(ctx, p) })
		if isMissing(err) {
			return nil, nil
		}
		return &e, err
	}
	there, err = look(c.sink.Lstat)
	if err != nil || there == nil || there.Kind != tree.KindSymlink {
		return there, false, err
	}
	there, err = look(c.sink.Stat)
	return there, true, err
}

// transportOf names the transport behind a tree, "" for this machine's disk.
func transportOf(t any) string {
	if c, ok := t.(tree.Carrier); ok {
		return c.Transport()
	}
	return ""
}

// transportBetween names what lies between the two ends of a copy.
func transportBetween(src tree.Source, dst tree.Sink) string {
	if t := transportOf(dst); t != "" {
		return t
	}
	return transportOf(src)
}

func (c *copier) emit(e Event) {
	if c.opt.Events != nil {
		c.opt.Events(e)
	}
}

// find adds to what there is to copy. Listeners hear of it in order.
func (c *copier) find(files, size int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found.Files += files
	c.found.Bytes += size
	c.emit(c.found)
}

// foundAll tells that no more files will be found.
func (c *copier) foundAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found.Complete = true
	c.emit(c.found)
}

// fail records that one file failed, part of the directory copy root if that is
// not nil. What it returns is nil, or the error when going on with other files
// would be useless or wrong.
func (c *copier) fail(ctx context.Context, root *copiedTree, id int64, label string, err error) error {
	if ctx.Err() != nil {
		return err // not this file's fault, and nothing worth telling of each
	}
	c.emit(Failed{ID: id, Path: label, Err: err})
	c.failed.Add(1)
	if root != nil {
		root.failed.Store(true)
	}
	if fatal(err) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.errs) < maxErrs {
		c.errs = append(c.errs, err)
	}
	return nil
}

// fatal reports whether no other file can do better than this one did.
func fatal(err error) bool {
	for _, cause := range []error{
		context.Canceled, context.DeadlineExceeded, tree.ErrLost, tree.ErrNoSpace, tree.ErrQuota, tree.ErrTakenOver, tree.ErrClosed,
	} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// settle notes that a found file has come to its end, unless err says that the
// end of ctx kept it from that.
func (c *copier) settle(ctx context.Context, err error) {
	if err == nil || ctx.Err() == nil {
		c.settled.Add(1)
	}
}

// left is how many of the found files have not come to an end.
func (c *copier) left() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.found.Files - c.settled.Load()
}

func (c *copier) summary() Summary {
	return Summary{
		Files: c.files.Load(), Skipped: c.skipped.Load(), Failed: c.failed.Load(),
		Sent: c.sent.Load(), Resumed: c.resumed.Load(),
	}
}
