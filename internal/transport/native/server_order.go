package native

import "sync"

// A line keeps requests in order: one that is exclusive is carried out before
// any later one begins. Others do not wait for each other. One goroutine adds.
// The zero value is ready.
type line struct {
	mu    sync.Mutex
	queue []*serverOp
	busy  bool // somebody goes through the queue
	start func(op *serverOp)
}

// add lets op begin when it may: at once, in the caller's goroutine, if nothing
// exclusive is under way.
func (l *line) add(op *serverOp, exclusive bool) {
	l.mu.Lock()
	if !l.busy && !exclusive {
		l.mu.Unlock()
		l.start(op)
		return
	}
	op.exclusive = exclusive
	l.queue = append(l.queue, op)
	first := !l.busy
	l.busy = true
	l.mu.Unlock()
	if first {
		go l.run()
	}
}

// run goes through the queue until it is empty. Every operation in it is one
// that the end of the session waits for.
func (l *line) run() {
	for {
		l.mu.Lock()
		if len(l.queue) == 0 {
			l.busy, l.queue = false, nil
			l.mu.Unlock()
			return
		}
		op := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		exclusive := op.exclusive
		op.exclusive = false
		l.mu.Unlock()
		if exclusive {
			op.carryOut()
		} else {
			l.start(op)
		}
	}
}

// workers carry out operations, a limited number at a time, in order of coming.
// There are as many goroutines as there is work.
type workers struct {
	limit int

	mu      sync.Mutex
	running int
	queue   []*serverOp
}

// do has op carried out.
func (w *workers) do(op *serverOp) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running >= w.limit {
		w.queue = append(w.queue, op)
		return
	}
	w.running++
	go w.work(op)
}

func (w *workers) work(op *serverOp) {
	for op != nil {
		op.carryOut()
		op = w.next()
	}
}

// next returns what is to be done next, nil when the caller may go.
func (w *workers) next() *serverOp {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.running--
		w.queue = nil
		return nil
	}
	op := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return op
}
