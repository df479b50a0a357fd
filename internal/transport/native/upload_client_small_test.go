package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

func TestManySmallFilesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		p.zstd = true
		c := p.client(ClientOptions{Compress: CompressAlways})
		defer p.close(c)
		limit, err := c.PutLimit(t.Context())
		if err != nil || limit != protocol.MaxInline {
			t.Fatal(limit, err)
		}
		var group sync.WaitGroup
		for i := range 500 {
			group.Go(func() {
				data := bytes.Repeat([]byte{byte(i)}, i*100)
				f := tree.Small{Path: tree.Path(fmt.Sprint("f", i)), Data: data, Digest: tree.Digest(tree.ChunkValue(data, 0, mib, true))}
				if _, err := c.Put(t.Context(), f); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.puts) != 500 || len(p.puts["f499"]) != 49_900 {
			t.Errorf("%d files arrived", len(p.puts))
		}
		if _, err := c.Put(t.Context(), tree.Small{Path: "big", Data: make([]byte, limit+1)}); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("Put of too much = %v", err)
		}
		sess, _ := c.session(t.Context())
		if !sess.room.TryAcquire(protocol.MinWindow) {
			t.Error("the window of the session is not free again")
		}
	})
}

func TestAPutThatNobodyWaitsForHoldsItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newUploadPeer(t)
		c := p.client(ClientOptions{})
		defer p.close(c)
		p.conns[0].Stall()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		data := noise(1000)
		f := tree.Small{Path: "f", Data: data, Digest: tree.Digest(tree.ChunkValue(data, 0, mib, true))}
		if _, err := c.Put(ctx, f); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Put = %v", err)
		}
		sess, _ := c.session(t.Context())
		if sess.room.TryAcquire(protocol.MinWindow) {
			t.Error("the window is free before the answer")
		}
		p.conns[0].Resume()
		synctest.Wait()
		if !sess.room.TryAcquire(protocol.MinWindow) {
			t.Error("the window is not free behind the answer")
		}
	})
}
