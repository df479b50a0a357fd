//go:build unix

package sftp

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"transferd/internal/tree"
)

// A server may still carry out what a killed client had asked for when the next
// run has begun: the rename of the killed run's partial above all.
func TestLateRenameOfAKilledRun(t *testing.T) {
	for _, tt := range []struct {
		name  string
		size  int
		whole bool // all is written when the late rename comes
	}{
		{"small, at the beginning", 1000, false},
		{"small, at the end", 1000, true},
		{"resumable, at the end", 3*mib + 5, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			target := filepath.Join(dir, "f")
			killed := filepath.Join(dir, tree.PartialName("here:/data", "f")+partSuffix)
			data := random(tt.size)
			if tt.size < mib {
				if err := os.WriteFile(killed, data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := newTestClient(t, stock(t), ClientOptions{Journals: journals{t.TempDir()}})
			u := tree.Upload{
				Path: diskPath(t, target), Origin: "here:/data", Size: int64(tt.size),
				ChunkSize: mib, Resume: true,
			}
			w, err := c.Begin(t.Context(), u)
			if err != nil {
				t.Fatal(err)
			}
			rename := func() {
				if err := os.Rename(killed, target); err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, data) {
					t.Errorf("the late rename published %d bytes that are not the file: %v", len(got), err)
				}
			}
			if !tt.whole {
				rename()
			}
			var values []tree.Value
			count := tree.ChunkCount(u.Size, mib)
			for i := range count {
				x := tree.ChunkExtent(i, u.Size, mib)
				piece := data[x.Offset:x.End()]
				v := tree.ChunkValue(piece, i, mib, count == 1)
				values = append(values, v)
				if err := w.WriteChunk(t.Context(), tree.Chunk{Index: i, Data: piece, Value: v}); err != nil {
					t.Fatal(err)
				}
			}
			at := time.Unix(1_700_000_000, 0)
			if tt.whole {
				if err := w.(*upload).settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				rename()
			}
			final := tree.Final{Size: u.Size, Values: values, Attr: tree.Attr{Mtime: &at}}
			if _, err := w.Commit(t.Context(), final); err != nil {
				t.Errorf("Commit = %v", err)
			}
			if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, data) {
				t.Errorf("the file has %d bytes that are not its own: %v", len(got), err)
			}
			if left, err := filepath.Glob(filepath.Join(dir, ".transfer-*")); err != nil || len(left) > 0 {
				t.Errorf("left over: %q, %v", left, err)
			}
		})
	}
}

func TestPartialsOfKilledRunsGo(t *testing.T) {
	dir := t.TempDir()
	for n := range freeNames + 1 {
		origin := "here:/data"
		if n > 0 {
			origin += "\x00" + string(rune('0'+n))
		}
		path := filepath.Join(dir, tree.PartialName(origin, "f")+partSuffix)
		if n < freeNames {
			if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := newTestClient(t, stock(t), ClientOptions{Journals: journals{t.TempDir()}})
	data := []byte("whole")
	u := tree.Upload{Path: diskPath(t, filepath.Join(dir, "f")), Origin: "here:/data"}
	if err := putFile(t, c, u, data); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "f" {
		t.Errorf("the directory has %v, %v, want the file alone", entries, err)
	}
}
