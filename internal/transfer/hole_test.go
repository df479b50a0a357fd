package transfer

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"transferd/internal/store"
	"transferd/internal/tree"
)

func TestHolesArriveAsHoles(t *testing.T) {
	src, dst := t.TempDir(), t.TempDir()
	data := make([]byte, 5<<20)
	copy(data[3<<20:], "in the fourth chunk")
	f, err := os.Create(filepath.Join(src, "f"))
	if err != nil {
		t.Fatal(err)
	}
	_, werr := f.WriteAt(data[3<<20:3<<20+100], 3<<20)
	if err := f.Truncate(int64(len(data))); err != nil || werr != nil || f.Close() != nil {
		t.Fatal(err, werr)
	}
	var places []Place
	for _, dir := range []string{dst, src} {
		s, err := store.Open(dir, store.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		places = append(places, Place{Tree: s, Path: tree.Root, Label: dir})
	}
	places[1].Path = "f"
	if _, err := Copy(t.Context(), places[0], places[1:], Options{}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dst, "f"))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("the copy differs: %d bytes, %v", len(got), err)
	}
}
