package native

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"transferd/internal/tree"
	"transferd/internal/tree/treetest"
	"transferd/protocol"
)

// Connections break after any number of bytes, in the middle of anything. Every
// operation ends, what failed was lost and nothing else, and tried again it
// comes out right.
func TestConnectionsThatBreak(t *testing.T) {
	const (
		breaks  = 25
		workers = 8
		rounds  = 12
	)
	for _, test := range []struct {
		name    string
		binding protocol.Binding
	}{{"SSH", protocol.BindingSSH}, {"TLS", protocol.BindingTLS}} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, test.binding)
			random := rand.New(rand.NewPCG(1, uint64(test.binding)))
			c := p.client(1)
			p.mu.Lock()
			p.breaks = func(n int) int64 {
				if n > breaks {
					return 0
				}
				return 6000 + random.Int64N(400_000)
			}
			p.conns[0].CutAfter(20_000)
			p.mu.Unlock()
			if err := c.Mkdir(t.Context(), "d", 0o755); err != nil {
				t.Fatal(err)
			}
			sub, err := c.Sub(t.Context(), "d")
			if err != nil {
				t.Fatal(err)
			}
			var group sync.WaitGroup
			for w := range workers {
				group.Go(func() {
					for i := range rounds {
						again(t, func() error { return roundTrip(t, sub, w, i) })
						if s, err := c.live(); err == nil && s != nil && i%4 == 0 {
							_ = s.join(t.Context()) // it may well be cut off
						}
					}
				})
			}
			group.Wait()
			if err := sub.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// again does something until it is not lost with its connection.
func again(t *testing.T, do func() error) {
	t.Helper()
	for range 1000 {
		err := do()
		if err == nil {
			return
		}
		if !errors.Is(err, tree.ErrLost) {
			t.Errorf("%v, want tree.ErrLost or nothing", err)
			return
		}
	}
	t.Error("lost a thousand times")
}

// roundTrip puts a file, looks at it and reads it both ways.
func roundTrip(t *testing.T, s tree.SubTree, worker, round int) error {
	t.Helper()
	p := tree.Path(fmt.Sprintf("f%d", worker))
	data := treetest.Data(byte(worker*16+round), 20_000+worker)
	small := treetest.Small(p, data)
	small.Fsync = tree.FsyncOff
	if _, err := s.(tree.Putter).Put(t.Context(), small); err != nil {
		return err
	}
	if e, err := s.Lstat(t.Context(), p); err != nil || e.Size != int64(len(data)) {
		return err
	}
	got, err := s.(tree.Getter).Get(t.Context(), p, int64(len(data)))
	if err != nil {
		return err
	}
	if !bytes.Equal(got.Data, data) {
		t.Errorf("Get(%q) gave something else", p)
	}
	r, err := s.Open(t.Context(), p)
	if err != nil {
		return err
	}
	chunk := make([]byte, len(data))
	v, err := r.(tree.ChunkReader).ReadChunk(t.Context(), chunk, 0, int64(len(data)), tree.MinChunkSize)
	if err == nil && (!bytes.Equal(chunk, data) || v != tree.Value(small.Digest)) {
		t.Errorf("ReadChunk of %q gave something else", p)
	}
	_ = r.Close() // a lost one is closed
	names := 0
	for e, listErr := range s.List(t.Context(), tree.Root) {
		if listErr != nil {
			return errors.Join(err, listErr)
		}
		if e.Name == string(p) {
			names++
		}
	}
	if names != 1 {
		t.Errorf("List names %q %d times", p, names)
	}
	return err
}

func TestAServerThatEndsIsALostConnection(t *testing.T) {
	p := newPair(t, protocol.BindingTLS)
	c := p.client(2)
	if err := write(t, c, "f", []byte("data")); err != nil {
		t.Fatal(err)
	}
	f, err := c.Open(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.server.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if _, err := f.ReadAt(make([]byte, 4), 0); !errors.Is(err, tree.ErrLost) {
		t.Errorf("ReadAt = %v, want tree.ErrLost", err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("Close of a lost file = %v", err)
	}
	p.server = NewServer(ServerConfig{Software: "next", Log: p.server.c.Log})
	if e, err := c.Lstat(t.Context(), "f"); err != nil || e.Size != 4 {
		t.Errorf("Lstat at the next server = %+v, %v", e, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Lstat(t.Context(), "f"); !errors.Is(err, tree.ErrClosed) || errors.Is(err, tree.ErrLost) {
		t.Errorf("Lstat of a closed client = %v, want tree.ErrClosed alone", err)
	}
}
