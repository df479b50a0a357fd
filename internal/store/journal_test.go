//go:build linux

package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

func someJournal() (b []byte, records int) {
	st := journalState{
		salt: 99, name: "target",
		header: tree.JournalHeader{Size: 10*mib + 5, ChunkSize: mib, Source: tree.Identity{Size: 10*mib + 5, Mtime: -1, Ctime: 2, Inode: 3}},
	}
	b = appendHeader(nil, &st)
	for _, r := range []record{
		ownerRecord(),
		{kind: recordDurable, index: 3, value: tree.Value{3}},
		{kind: recordDurable, index: 10, value: tree.Value{10}},
		{kind: recordForget, index: 3},
		{kind: recordDurable, index: 0, value: tree.Value{1}},
	} {
		b = appendRecord(b, st.salt, r)
		records++
	}
	return b, records
}

func TestReadJournal(t *testing.T) {
	b, records := someJournal()
	st, err := readJournal(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	want := map[int64]tree.Value{0: {1}, 10: {10}}
	if diff := cmp.Diff(want, st.have); diff != "" {
		t.Errorf("have (-want +got):\n%s", diff)
	}
	if st.name != "target" || st.header.Source.Mtime != -1 || st.pid != int64(os.Getpid()) || st.end != int64(len(b)) {
		t.Errorf("journal = %+v, want what was written", st)
	}
	head := len(b) - records*recordSize
	for n := range b {
		st, err := readJournal(bytes.NewReader(b[:n]))
		if n < head {
			if !errors.Is(err, errNoJournal) {
				t.Fatalf("readJournal of %d bytes = %v, want errNoJournal", n, err)
			}
			continue
		}
		if whole := head + (n-head)/recordSize*recordSize; err != nil || st.end != int64(whole) {
			t.Fatalf("readJournal of %d bytes ends at %d, %v, want %d", n, st.end, err, whole)
		}
	}
	for i := range b { // a flipped byte ends the journal before its record
		bad := bytes.Clone(b)
		bad[i] ^= 0x40
		st, err := readJournal(bytes.NewReader(bad))
		if i < head {
			if !errors.Is(err, errNoJournal) {
				t.Fatalf("readJournal with byte %d flipped = %v, want errNoJournal", i, err)
			}
			continue
		}
		if whole := head + (i-head)/recordSize*recordSize; err != nil || st.end != int64(whole) {
			t.Fatalf("readJournal with byte %d flipped ends at %d, %v, want %d", i, st.end, err, whole)
		}
	}
}

// FuzzReadJournal: whatever the bytes, what is read fits the upload, and
// reading the good part again says the same.
func FuzzReadJournal(f *testing.F) {
	b, _ := someJournal()
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add([]byte(journalMagic))
	unknown := journalState{header: tree.JournalHeader{Size: -1, ChunkSize: 1 << 62}, name: strings.Repeat("n", maxJournalName)}
	f.Add(appendRecord(appendHeader(nil, &unknown), 0, record{kind: recordSource, index: 1 << 62}))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := readJournal(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, errNoJournal) {
				t.Fatalf("readJournal = %v", err)
			}
			return
		}
		if st.end > int64(len(b)) || len(st.name) > maxJournalName {
			t.Fatalf("end %d of %d bytes, name of %d", st.end, len(b), len(st.name))
		}
		for i := range st.have {
			if !st.holds(i) {
				t.Fatalf("chunk %d of an upload of %d bytes", i, st.header.Size)
			}
		}
		again, err := readJournal(bytes.NewReader(b[:st.end]))
		if err != nil || !maps.Equal(again.have, st.have) || again.end != st.end {
			t.Fatalf("reading again = %+v, %v", again, err)
		}
	})
}

func FuzzReadIndex(f *testing.F) {
	x := newIndex("/state", newHub(Options{}))
	f.Add(x.line(indexed{root: "/srv", dir: "a\xffb"}, x.hub.now()))
	f.Add([]byte("{}\n{\"root\":\"x\"}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		dirs, err := readIndex(bytes.NewReader(b))
		if err != nil {
			return
		}
		var text []byte
		for k, at := range dirs {
			text = append(text, x.line(k, at)...)
		}
		again, err := readIndex(bytes.NewReader(text))
		if err != nil || len(again) != len(dirs) {
			t.Fatalf("%d lines read again are %d, %v", len(dirs), len(again), err)
		}
	})
}

func openJournal(t *testing.T, j tree.Journals, key string, h tree.JournalHeader) tree.Journal {
	t.Helper()
	got, err := j.OpenJournal(t.Context(), key, h)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func haveOf(j tree.Journal) map[int64]tree.Value {
	m := map[int64]tree.Value{}
	for i, v := range j.Have() {
		m[i] = v
	}
	return m
}

func TestJournals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "journals")
	journals := OpenJournals(path)
	key := "user@host:22 /a/very\x00odd\nname" + strings.Repeat("x", 10_000)
	h := tree.JournalHeader{Size: 5*mib + 1, ChunkSize: mib, Source: tree.Identity{Size: 5*mib + 1, Mtime: 1}}
	j := openJournal(t, journals, key, h)
	if got := haveOf(j); len(got) != 0 {
		t.Errorf("a new journal has %v", got)
	}
	for _, chunks := range []map[int64]tree.Value{{0: {1}, 5: {5}}, {3: {3}, 1: {2}}} {
		if err := j.Record(chunks); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Forget([]int64{1}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	other := openJournal(t, journals, "another", h)
	if got := haveOf(other); len(got) != 0 {
		t.Errorf("another journal has %v", got)
	}
	if err := other.Remove(); err != nil {
		t.Fatal(err)
	}

	j = openJournal(t, journals, key, h)
	if diff := cmp.Diff(map[int64]tree.Value{0: {1}, 3: {3}, 5: {5}}, haveOf(j)); diff != "" || !j.Unchanged() {
		t.Errorf("journal after Close, unchanged %v (-want +got):\n%s", j.Unchanged(), diff)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	// A source that grew keeps what is not at its end, and stays known as mixed
	// even when it is the old one again.
	grown := h
	grown.Size, grown.Source.Size, grown.Source.Mtime = 8*mib, 8*mib, 2
	for _, want := range []tree.JournalHeader{grown, h, grown} {
		j = openJournal(t, journals, key, want)
		if diff := cmp.Diff(map[int64]tree.Value{0: {1}, 3: {3}}, haveOf(j)); diff != "" || j.Unchanged() {
			t.Errorf("journal of a changed source, unchanged %v (-want +got):\n%s", j.Unchanged(), diff)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	h.ChunkSize *= 2
	j = openJournal(t, journals, key, h)
	if got := haveOf(j); len(got) != 0 || !j.Unchanged() {
		t.Errorf("journal with another chunk size has %v", got)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	if files := readDir(t, path); len(files) != 0 {
		t.Errorf("left behind: %v", sortedKeys(files))
	}
}

func TestJournalsBusy(t *testing.T) {
	all := OpenJournals(t.TempDir())
	all.(*journals).hub.tuning.lockWait = 1
	h := tree.JournalHeader{Size: 5 * mib, ChunkSize: mib}
	j := openJournal(t, all, "key", h)
	if _, err := all.OpenJournal(t.Context(), "key", h); !errors.Is(err, tree.ErrBusy) {
		t.Errorf("OpenJournal of a held one = %v, want ErrBusy", err)
	}
	all.(*journals).hub.tuning.lockWait = 1 << 50
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := all.OpenJournal(ctx, "key", h); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenJournal with an ended context = %v, want Canceled", err)
	}
	if err := j.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(all.(*journals).path, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := all.OpenJournal(t.Context(), "key", tree.JournalHeader{Size: -2, ChunkSize: 1}); err == nil {
		t.Error("OpenJournal takes a size of -2")
	}
	if _, err := OpenJournals("/dev/null/x").OpenJournal(t.Context(), "k", h); err == nil || errors.Is(err, fs.ErrExist) {
		t.Errorf("OpenJournal below a device = %v", err)
	}
}
