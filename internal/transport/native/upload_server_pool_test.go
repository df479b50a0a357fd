package native

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
	"transferd/protocol"
)

func TestClassesOfBuffers(t *testing.T) {
	for _, tt := range []struct {
		n     int64
		index int
		size  int64
	}{
		{0, 0, 64 << 10},
		{64 << 10, 0, 64 << 10},
		{64<<10 + 1, 1, 128 << 10},
		{1 << 20, 4, 1 << 20},
		{4 << 20, 6, 4 << 20},
	} {
		if index, size := class(tt.n); index != tt.index || size != tt.size {
			t.Errorf("class(%d) = %d, %d", tt.n, index, size)
		}
	}
}

func TestAPoolIsSharedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newChunkPool(8 << 20)
		never := make(chan struct{})
		a, b, c := p.share(), p.share(), p.share()
		first, second := a.get(4<<20, never, never), a.get(4<<20, never, never)
		if cap(first) != 4<<20 || cap(second) != 4<<20 {
			t.Fatal("no memory")
		}
		own := b.get(4<<20, never, never) // b has nothing, and need not wait
		var mu sync.Mutex
		var order []string
		var group sync.WaitGroup
		wait := func(name string, s *poolShare, n int64, gone <-chan struct{}) {
			group.Go(func() {
				buf := s.get(n, never, gone)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, fmt.Sprint(name, buf != nil))
				if buf != nil {
					s.put(buf)
				}
			})
			synctest.Wait()
		}
		gone := make(chan struct{})
		wait("large ", b, 4<<20, never)
		wait("given up ", a, 1<<20, gone)
		wait("small ", a, 1<<20, never)
		if len(order) != 0 {
			t.Errorf("went on: %v", order)
		}
		wait("guaranteed ", c, 4<<20, never)
		close(gone)
		synctest.Wait()
		a.put(first)
		synctest.Wait()
		if got := fmt.Sprint(order); got != "[guaranteed true given up false]" {
			t.Errorf("went on: %v", got) // what b has still lies above the bound
		}
		b.put(own)
		a.put(second)
		group.Wait()
		if len(order) != 4 || p.free != 8<<20 || a.held != 0 || b.held != 0 {
			t.Errorf("went on: %v; %d free", order, p.free)
		}
	})
}

// TestManyUploadsAtOnce has a hundred uploads come on few streams, with large
// chunks and little memory: all of them end.
func TestManyUploadsAtOnce(t *testing.T) {
	bubble(t, 3, func(t *testing.T, p *uploadHost) {
		const n = 100
		p.pool.free = 8 << 20
		defer func() { p.pool.free += poolBytes - 8<<20 }()
		data := treetest.Data(1, 2*testChunk)
		chunks := treetest.Chunks(data)
		l := p.streams[0]
		for id := range uint64(n) {
			l.say(id+1, beginToWire(treetest.Upload(tree.Path(fmt.Sprint(id)), data), 0))
		}
		done := make(chan error, 1) // the answers are read all the time, as a client does
		go func() {
			defer close(done)
			committed := 0
			for committed < n {
				f, err := l.next()
				if err != nil {
					done <- err
					return
				}
				switch m := f.Message.(type) {
				case *protocol.Committed:
					committed++
				case *protocol.Fail:
					done <- fmt.Errorf("%d: %v %s", f.ID, m.Code, m.Message)
					return
				}
			}
		}()
		synctest.Wait()
		var group sync.WaitGroup
		for i := range chunks {
			group.Go(func() {
				for id := range uint64(n) {
					p.streams[i+1].chunk(id+1, chunks[i], testChunk)
				}
			})
		}
		for id := range uint64(n) {
			l.say(id+1, commitOf(treetest.FinalOf(data), 2))
		}
		group.Wait()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(p.sink.files) != n {
			t.Errorf("%d files", len(p.sink.files))
		}
	})
}

// TestASessionThatHangsKeepsNobodyElse fills the memory by half chunks and by a
// disk that hangs; another session goes on.
func TestASessionThatHangsKeepsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := newMemSink(t)
		hanging.onWrite = func(ctx context.Context, _ tree.Chunk) error { <-ctx.Done(); return ctx.Err() }
		bad := newUploadHost(t, hanging, 4)
		good := newUploadHost(t, newMemSink(t), 1)
		good.pool, bad.pool.free = bad.pool, 8<<20
		good.ups.share = bad.pool.share()

		data := treetest.Data(1, 16*testChunk)
		chunks := treetest.Chunks(data)
		bad.streams[0].begin(1, treetest.Upload("f", data))
		for i, l := range bad.streams[1:] {
			l.piece(1, int64(i+8)*testChunk, data[:10], 0, tree.Value{})
		}
		for _, c := range chunks[:5] {
			bad.streams[0].chunk(1, c, testChunk)
		}
		bad.streams[0].piece(1, 5*testChunk, data[:10], 0, tree.Value{}) // no memory for that
		synctest.Wait()
		if !bad.ups.share.starved() {
			t.Errorf("there is memory left: %d", bad.pool.free)
		}

		l := good.streams[0]
		l.begin(1, treetest.Upload("g", data))
		for _, c := range chunks {
			l.chunk(1, c, testChunk)
		}
		l.say(1, commitOf(treetest.FinalOf(data), 16))
		m, _ := l.answer(1)
		wantCommitted(t, m)
		bad.pool.free += poolBytes - 8<<20
		bad.close()
		good.close()
	})
}

func TestTheEndOfAnUploadFreesItsMemory(t *testing.T) {
	bubble(t, 3, func(t *testing.T, p *uploadHost) {
		data := treetest.Data(1, 4*testChunk)
		l := p.streams[0]
		l.begin(1, treetest.Upload("f", data))
		for i, l := range p.streams {
			l.piece(1, int64(i)*testChunk, data[:10], 0, tree.Value{})
		}
		synctest.Wait()
		if p.pool.free != poolBytes-3*testChunk {
			t.Errorf("%d bytes are held", poolBytes-p.pool.free)
		}
		l.say(1, &protocol.Abort{})
		m, _ := l.answer(1)
		wantOK(t, m)
		if p.pool.free != poolBytes || p.window.used != 0 {
			t.Errorf("%d bytes are held, %d counted, though the streams are open", poolBytes-p.pool.free, p.window.used)
		}
		for i, l := range p.streams { // the rest crosses the answer
			l.piece(1, int64(i)*testChunk+10, data[10:20], 0, tree.Value{})
		}
		l.begin(2, treetest.Upload("g", data))
		p.streams[1].chunk(2, treetest.Chunks(data)[0], testChunk)
		l.say(2, &protocol.Suspend{})
		m, acked := l.answer(2)
		wantOK(t, m)
		_ = acked // the chunk may have come too late
	})
}
