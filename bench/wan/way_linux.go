package wan

import (
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// A packet is on its way until it is due.
type packet struct {
	data []byte
	due  time.Time
}

// A way is one direction of a line.
type way struct {
	link     Link
	from, to *os.File
	queue    chan packet // closed when nothing more comes
	bufs     sync.Pool

	mu  sync.Mutex // guards cut
	cut bool
}

// receive takes packets off the sender, or drops them.
func (w *way) receive() {
	defer close(w.queue)
	var free time.Time // when the line has sent everything taken so far
	for {
		buf, _ := w.bufs.Get().([]byte)
		if buf == nil {
			buf = make([]byte, mtu+64)
		}
		n, err := w.from.Read(buf[:cap(buf)])
		if err != nil {
			return
		}
		w.mu.Lock()
		cut := w.cut
		w.mu.Unlock()
		now := time.Now()
		if free.Before(now) {
			free = now
		}
		backlog := int64(0)
		if w.link.Rate > 0 {
			backlog = int64(free.Sub(now).Seconds() * float64(w.link.Rate) / 8)
		}
		//nolint:gosec // chance, not secrecy
		if cut || backlog > w.link.Queue || w.link.Loss > 0 && rand.Float64() < w.link.Loss {
			w.bufs.Put(buf) //nolint:staticcheck // one small allocation a lost packet
			continue
		}
		if w.link.Rate > 0 {
			free = free.Add(time.Duration(float64(n) * 8 / float64(w.link.Rate) * float64(time.Second)))
		}
		w.queue <- packet{buf[:n], free.Add(w.link.Delay)}
	}
}

// deliver hands packets to the receiver when they are due.
func (w *way) deliver() {
	for p := range w.queue {
		if wait := time.Until(p.due); wait > 0 {
			time.Sleep(wait) //nolint:forbidigo // this is what the line is for
		}
		w.mu.Lock()
		cut := w.cut
		w.mu.Unlock()
		if !cut {
			_, _ = w.to.Write(p.data) // a full receiver loses it, as any line does
		}
		w.bufs.Put(p.data) //nolint:staticcheck // one small allocation a packet
	}
}
