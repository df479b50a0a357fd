package sftp

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"transferd/internal/tree"
)

// putFile uploads data as the engine does: chunks in order, several at a time.
func putFile(t testing.TB, s tree.Sink, u tree.Upload, data []byte) error {
	t.Helper()
	ctx := t.Context()
	u.Size = int64(len(data))
	u.ChunkSize = tree.ChunkSizeFor(u.Size)
	w, err := s.Begin(ctx, u)
	if err != nil {
		return err
	}
	have := map[int64]tree.Value{}
	for i, v := range w.Have() {
		have[i] = v
	}
	values := make([]tree.Value, tree.ChunkCount(u.Size, u.ChunkSize))
	for i := range values {
		x := tree.ChunkExtent(int64(i), u.Size, u.ChunkSize)
		values[i] = have[int64(i)]
		if _, ok := have[int64(i)]; ok {
			continue
		}
		values[i] = tree.ChunkValue(data[x.Offset:x.End()], int64(i), u.ChunkSize, len(values) == 1)
		if err := w.WriteChunk(ctx, tree.Chunk{Index: int64(i), Data: data[x.Offset:x.End()], Value: values[i]}); err != nil {
			_ = w.Suspend(ctx)
			return err
		}
	}
	perm, when := tree.Perm(0o640), time.Unix(1_700_000_000, 0)
	_, err = w.Commit(ctx, tree.Final{
		Size: u.Size, Values: values, Digest: tree.MergeValues(values), HasDigest: true,
		Attr: tree.Attr{Perm: &perm, Mtime: &when},
	})
	return err
}

func BenchmarkUpload(b *testing.B) {
	for _, lanes := range []int{1, 4} {
		b.Run(fmt.Sprint(lanes), func(b *testing.B) {
			c := newTestClient(b, stock(b), ClientOptions{Lanes: lanes, Journals: journals{b.TempDir()}})
			dir := b.TempDir()
			data := make([]byte, 256<<20)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if err := putFile(b, c, tree.Upload{Path: diskPath(b, filepath.Join(dir, "x"))}, data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDownload(b *testing.B) {
	for _, lanes := range []int{1, 4} {
		b.Run(fmt.Sprint(lanes), func(b *testing.B) {
			c := newTestClient(b, stock(b), ClientOptions{Lanes: lanes})
			path := filepath.Join(b.TempDir(), "x")
			const size = 256 << 20
			if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(size)
			for b.Loop() {
				r, err := c.Open(b.Context(), diskPath(b, path))
				if err != nil {
					b.Fatal(err)
				}
				g, _ := errgroup.WithContext(b.Context())
				g.SetLimit(4)
				for off := int64(0); off < size; off += 1 << 20 {
					g.Go(func() error {
						buf := make([]byte, 1<<20)
						_, err := r.ReadAt(buf, off)
						return err
					})
				}
				if err := g.Wait(); err != nil {
					b.Fatal(err)
				}
				if err := r.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkSmallFiles(b *testing.B) {
	for _, lanes := range []int{1, 4} {
		for _, fsync := range []tree.Fsync{tree.FsyncAuto, tree.FsyncOff} {
			b.Run(fmt.Sprintf("%d/fsync=%d", lanes, fsync), func(b *testing.B) {
				c := newTestClient(b, stock(b), ClientOptions{Lanes: lanes})
				data := make([]byte, 4<<10)
				for b.Loop() {
					s, err := c.Sub(b.Context(), diskPath(b, b.TempDir()))
					if err != nil {
						b.Fatal(err)
					}
					g, _ := errgroup.WithContext(b.Context())
					g.SetLimit(32)
					for i := range 1000 {
						g.Go(func() error {
							return putFile(b, s, tree.Upload{Path: tree.Path(fmt.Sprint(i)), Fsync: fsync}, data)
						})
					}
					if err := g.Wait(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
