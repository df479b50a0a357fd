package native

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"transferd/internal/testnet"
	"transferd/internal/tree"
	"transferd/protocol"
)

// A cutter dials a rig's server over connections that break after a random
// number of bytes, the first cuts of them.
type cutter struct {
	r    *rig
	o    ServeOptions
	mu   sync.Mutex
	rand *rand.Rand
	cuts int
}

func (x *cutter) dial(ctx context.Context) *Stream {
	ctx = context.WithoutCancel(ctx) // the dial ends before the stream does
	near, far := testnet.Pipe()
	x.mu.Lock()
	if x.cuts > 0 {
		x.cuts--
		near.CutAfter(x.rand.Int64N(6 * mib))
		if x.rand.IntN(2) == 0 {
			far.CutAfter(x.rand.Int64N(2000))
		}
	}
	x.mu.Unlock()
	bound := []byte("bound")
	x.r.group.Go(func() {
		st := &Stream{ReadWriteCloser: far, Transport: "ssh", Binding: protocol.BindingSSH, Bound: bound}
		_ = x.r.server.Serve(ctx, st, x.o) // many end badly
	})
	return &Stream{ReadWriteCloser: near, Transport: "ssh", Binding: protocol.BindingSSH, Bound: bound}
}

// try uploads chunks once, with as many streams as can be had, and goes on where
// the last try ended.
func (x *cutter) try(t *testing.T, c *Client, u tree.Upload, chunks []tree.Chunk) error {
	t.Helper()
	sess, err := c.session(t.Context())
	if err != nil {
		return err
	}
	for range 2 {
		_ = sess.join(t.Context()) // it does with what it has
	}
	w, err := c.Begin(t.Context(), u)
	if err != nil {
		return err
	}
	have := maps.Collect(w.Have())
	var rest []tree.Chunk
	for _, c := range chunks {
		v, ok := have[c.Index]
		if ok && v != c.Value {
			t.Errorf("the server has another value of chunk %d", c.Index)
		}
		if !ok && !(c.Extents != nil && len(c.Extents) == 0) {
			rest = append(rest, c)
		}
	}
	if err := writeAll(t.Context(), w, rest); err != nil {
		return errors.Join(err, w.Suspend(t.Context()))
	}
	f := finalOf(u.Size, chunks)
	for i, c := range chunks {
		if _, ok := have[c.Index]; !ok && c.Extents != nil && len(c.Extents) == 0 {
			f.Values[i] = tree.Value{}
		}
	}
	_, err = w.Commit(t.Context(), f)
	return err
}

func TestUploadsSurviveCuts(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := newRig(t, ServerConfig{})
			x := &cutter{r: r, o: r.o, rand: rand.New(rand.NewPCG(seed, 0)), cuts: 25}
			data := noise(14*mib + 4321)
			clear(data[3*mib : 4*mib])
			clear(data[6*mib+1000 : 6*mib+500_000])
			chunks := chunksOf(data)
			chunks[3].Extents = []tree.Extent{}
			chunks[6].Extents = []tree.Extent{{Offset: 6 * mib, Length: 1000}, {Offset: 6*mib + 500_000, Length: mib - 500_000}}
			u := tree.Upload{Path: "f", Size: int64(len(data)), ChunkSize: mib, Resume: true, Sparse: true, Origin: "here:/f"}
			o := ClientOptions{
				Control: func(ctx context.Context) (*Stream, Prover, error) { return x.dial(ctx), nil, nil },
				Join:    func(ctx context.Context, _ *protocol.Welcome) (*Stream, error) { return x.dial(ctx), nil },
				Streams: 3,
			}
			if seed%2 == 0 {
				o.Compress = CompressAlways
			}
			var c *Client
			err := errors.New("not begun")
			for try := 0; err != nil && try < 100; try++ {
				if c == nil {
					if c, err = NewClient(t.Context(), o); err != nil {
						c = nil
						continue
					}
				}
				if err = x.try(t, c, u, chunks); err != nil && !errors.Is(err, tree.ErrLost) {
					t.Fatalf("try %d: %v", try, err)
				}
				if got, readErr := os.ReadFile(filepath.Join(r.dir, "f")); readErr == nil && !bytes.Equal(got, data) {
					t.Fatalf("try %d: the final name has %d bytes that are not the file", try, len(got))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(r.dir, "f")); err != nil || !bytes.Equal(got, data) {
				t.Errorf("what arrived differs: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := r.server.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
