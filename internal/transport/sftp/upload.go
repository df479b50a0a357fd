package sftp

import (
	"context"
	"iter"
	"maps"
	"sync"
	"time"

	"transferd/internal/tree"
)

// pace bounds what a writer has taken and not yet recorded.
type pace struct {
	batch int64         // bytes that are worth an fsync and a record
	age   time.Duration // or how long the first of them waits for others
	held  int64         // WriteChunk waits above this
}

// durablePace costs 4 % of the speed, where batches of 4 MiB cost 37 %: measured
// by bcmr, which does the same.
func durablePace() pace { return pace{batch: 64 << 20, age: time.Second, held: 96 << 20} }

const partSuffix = ".part"

// An upload is the writer of one file. Its bytes go to a partial beside the
// target, and what of them is durable there is recorded in a journal on this
// machine, for a server of SFTP keeps none.
type upload struct {
	c      *Client
	u      tree.Upload
	f      *file
	j      tree.Journal // nil: the file is too small to be resumed, or nobody keeps journals
	target string       // the final name as the server spells it
	part   string       // what is written; target itself for one written in place
	place  place
	stale  []string // partials of killed runs, which go when this one is done
	was    attrs    // of the target before; no flags: it was not there

	have      map[int64]tree.Value // durable since earlier runs
	unchanged bool

	kick    chan struct{} // size 1: the flusher should look
	stop    context.CancelFunc
	unlock  func() // lets the next run of an upload without a journal begin
	flusher sync.WaitGroup
	flushMu sync.Mutex // held by who makes a batch durable

	mu     sync.Mutex
	change sync.Cond          // anything below
	err    error              // the first failure; nothing goes on after it
	flying int                // WRITEs without an answer
	held   int64              // bytes taken and not yet recorded (without a journal: not yet answered)
	ready  batch              // answered and not yet recorded
	next   int64              // the chunk whose turn it is, where order matters
	again  map[int64]struct{} // chunks of have that this run has written again
	synced bool               // everything is on stable storage
	ended  bool
}

// A place says what is written to.
type place uint8

const (
	placePartial place = iota // a partial that is renamed
	placeFile                 // the regular file of the final name itself
	placeDevice               // a device: written at offsets, keeps its attributes
	placeStream               // a FIFO or socket: written in order
)

// A batch is the chunks that one fsync makes durable.
type batch struct {
	values map[int64]tree.Value
	bytes  int64
}

func (w *upload) init() {
	w.change.L = &w.mu
	w.kick = make(chan struct{}, 1)
	w.stop = func() {}
	w.unlock = func() {}
}

// Have implements tree.Writer.
func (w *upload) Have() iter.Seq2[int64, tree.Value] { return maps.All(w.have) }

// Unchanged implements tree.Writer.
func (w *upload) Unchanged() bool { return w.unchanged }

// syncs reports whether what is written is to be forced to stable storage, and
// can be.
func (w *upload) syncs() bool {
	if w.place == placeStream || (w.place == placeDevice && kindOf(w.was.mode) != tree.KindBlockDevice) {
		return false // nothing there is ever on a disk
	}
	return w.u.Fsync != tree.FsyncOff && w.f.first.has(extFsync)
}

// fail makes err the end of the upload unless it has one already.
func (w *upload) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked(err)
}

func (w *upload) failLocked(err error) {
	if w.err == nil {
		w.err = err
	}
	w.change.Broadcast()
}

// await waits until ok, which is called with mu held, or the upload failed, or
// ctx ends.
func (w *upload) await(ctx context.Context, ok func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.change.Broadcast()
	})
	defer stop()
	for !ok() {
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case w.err != nil:
			return w.err
		}
		w.change.Wait()
	}
	return w.err
}

// settle waits until the server has answered every WRITE.
func (w *upload) settle(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.await(ctx, func() bool { return w.flying == 0 })
}

// explain names the file, and what a refusal without a reason is probably about.
func (w *upload) explain(ctx context.Context, op string, err error) error {
	err = w.f.first.orDisk(ctx, err, parentPath(w.part), true)
	return pathError(op, w.c.nameOf(w.target), err)
}

func parentPath(path string) string {
	p, err := tree.ParsePath(path)
	if err != nil {
		return "/"
	}
	return remote(p.Parent())
}
