package native

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
	"transferd/protocol"
)

func TestErrorsTravel(t *testing.T) {
	for _, is := range []error{
		fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, errors.ErrUnsupported, context.Canceled,
		tree.ErrNotRegular, tree.ErrNotDir, tree.ErrIsDir, tree.ErrNotEmpty, tree.ErrEscape, tree.ErrNoSpace,
		tree.ErrQuota, tree.ErrTakenOver, tree.ErrBusy, tree.ErrSourceChanged, tree.ErrIntegrity,
		tree.ErrClosed, tree.ErrBadPath,
	} {
		sent := &fs.PathError{Op: "stat", Path: "srv/secret/d/a", Err: fmt.Errorf("some disk: %w", is)}
		code, message := codeOf(fmt.Errorf("commit srv/secret/d/a: %w", sent))
		if strings.Contains(message, "secret") || !strings.Contains(message, "some disk") {
			t.Errorf("the message for %v is %q", is, message)
		}
		got := errorOf(code, message, "stat", "d/a")
		if !errors.Is(got, is) {
			t.Errorf("%v arrives as %v (%v)", is, got, code)
		}
		if want := "stat d/a: " + message; got.Error() != want {
			t.Errorf("error %q, want %q", got, want)
		}
		if bare := errorOf(code, "", "stat", "d/a"); bare.Error() != "stat d/a: "+is.Error() {
			t.Errorf("without a message: %q", bare)
		}
	}
}

func TestCodesOfErrors(t *testing.T) {
	for _, tt := range []struct {
		err  error
		code protocol.Code
		text string
	}{
		{errors.New("odd"), protocol.CodeFailure, "odd"},
		{fs.ErrClosed, protocol.CodeClosed, "file already closed"},
		{context.DeadlineExceeded, protocol.CodeCancelled, "context deadline exceeded"},
		{refuse(protocol.CodeWindow, "%d bytes", 5), protocol.CodeWindow, "5 bytes"},
		{fmt.Errorf("write x: %w", refuse(protocol.CodeWrongOffset, "no")), protocol.CodeWrongOffset, "no"},
		{&protocol.Error{Code: protocol.CodeTooLarge, Type: protocol.TypePut}, protocol.CodeTooLarge, "PUT: TOO_LARGE"},
		{&Refusal{Code: protocol.CodeAuth, Message: "no", Err: errors.New("secret")}, protocol.CodeAuth, "no"},
		{&os.LinkError{Op: "link", Old: "/a", New: "/b", Err: syscall.ENOTEMPTY}, protocol.CodeExists, "directory not empty"},
		{errors.Join(tree.ErrIsDir, tree.ErrNotRegular), protocol.CodeIsDir, "is a directory\nnot a regular file"},
		{&fs.PathError{Op: "x", Path: "y"}, protocol.CodeFailure, "unknown error"},
	} {
		code, text := codeOf(tt.err)
		if code != tt.code || text != tt.text {
			t.Errorf("codeOf(%v) = %v, %q, want %v, %q", tt.err, code, text, tt.code, tt.text)
		}
	}
}

func TestCodesThatAreNoErrorsOfATree(t *testing.T) {
	for code, is := range map[protocol.Code]error{
		protocol.CodeShutdown: tree.ErrLost,
		protocol.CodeIdle:     tree.ErrLost,
		protocol.CodeTooLarge: errors.ErrUnsupported,
		protocol.CodeIsDir:    tree.ErrNotRegular,
	} {
		if err := errorOf(code, "so", "get", "x"); !errors.Is(err, is) || !isCode(err, code) {
			t.Errorf("%v is %v, not %v", code, err, is)
		}
	}
	if err := errorOf(9999, "", "get", "x"); err.Error() != "get x: code 9999" {
		t.Errorf("an unknown code is %q", err)
	}
}

func TestMessagesAreShort(t *testing.T) {
	for _, fill := range []string{"x", "ü", "€", "🙂", "\xff", "\x80"} {
		_, text := codeOf(errors.New("." + strings.Repeat(fill, protocol.MaxMessage)))
		if len(text) > protocol.MaxMessage || len(text) < protocol.MaxMessage-8 {
			t.Errorf("%d bytes of %q", len(text), fill)
		}
		if utf8.ValidString(fill) && !utf8.ValidString(text) {
			t.Errorf("cut within a %q", fill)
		}
	}
}

func TestEntriesTravel(t *testing.T) {
	at := time.Unix(1_700_000_000, 123_456_789)
	e := tree.Entry{
		Name: "a", Kind: tree.KindSymlink, Size: 3, Perm: 0o4755, Mtime: at, Atime: at.Add(1), Ctime: at.Add(2),
		UID: 1, GID: 2, Owner: "o", Group: "g", Nlink: 3, Device: 4, Inode: 5, Link: "../x", Grain: time.Second,
	}
	w := entryToWire(e, []tree.Xattr{{Name: "user.a", Value: []byte("b")}})
	if got := entryFromWire("a", &w); !cmp.Equal(got, e) {
		t.Error(cmp.Diff(e, got))
	}
	if got := xattrsFromWire(w.Xattrs); len(got) != 1 || got[0].Name != "user.a" || string(got[0].Value) != "b" {
		t.Errorf("extended attributes %v", got)
	}
	if xattrsFromWire(nil) == nil {
		t.Error("no extended attributes are not told from unknown ones")
	}

	w = entryToWire(tree.Entry{Size: -1, Owner: strings.Repeat("o", 300), Grain: -1, Mtime: time.Unix(1<<40, 0)}, nil)
	if w.Size != 0 || w.Owner != "" || w.Grain != 0 || w.Mtime != math.MaxInt64 {
		t.Errorf("an odd entry is %+v", w)
	}
	if _, err := protocol.Append(nil, 1, &protocol.Found{Entry: w}); err != nil {
		t.Errorf("an odd entry cannot be sent: %v", err)
	}
	w.Kind = 200
	if got := entryFromWire("b", &w); got.Kind != tree.KindUnknown || !got.Ctime.IsZero() {
		t.Errorf("an odd entry arrives as %+v", got)
	}
}

func TestListingsTravel(t *testing.T) {
	for _, tt := range []struct {
		path string
		deep bool
		err  error
		ok   bool
	}{
		{"a", false, nil, true},
		{"a/b", false, nil, false},
		{"a/b", true, nil, true},
		{".", true, nil, false},
		{"..", false, nil, false},
		{"a/b", true, fs.ErrPermission, false},
		{".", true, fs.ErrPermission, false},
	} {
		l := listingToWire(tree.Path(tt.path), tree.Entry{Kind: tree.KindFile}, nil, tt.err)
		p, e, err := listingFromWire(&l, "top", tt.deep)
		if (err == nil) != tt.ok || string(p) != tt.path || (tt.err != nil && !errors.Is(err, tt.err)) {
			t.Errorf("%q, %v: %v", tt.path, tt.err, err)
		}
		if tt.ok && (e.Name != p.Base() || e.Kind != tree.KindFile) {
			t.Errorf("%q is %+v", tt.path, e)
		}
	}
	l := listingToWire("a", tree.Entry{Link: strings.Repeat("x", protocol.MaxPath+1)}, nil, nil)
	if l.Code != protocol.CodeTooLarge || l.Entry.Link != "" {
		t.Errorf("a target that is too long is %+v", l)
	}
}

func TestAttributesTravel(t *testing.T) {
	at := time.Unix(-5, 7)
	for _, a := range []tree.Attr{
		{},
		{Size: new(int64(9))},
		{Perm: new(tree.Perm(0o7777)), Mtime: &at},
		{Atime: &at, Owner: &tree.Owner{UID: 7}},
		{Xattrs: []tree.Xattr{}},
		{Xattrs: []tree.Xattr{{Name: "user.x", Value: []byte{0}}}},
	} {
		w := attrToWire(a)
		frame, err := protocol.Append(nil, 1, &protocol.SetAttr{Place: protocol.Place{Path: "a"}, Attr: w})
		if err != nil {
			t.Fatal(err)
		}
		m, err := protocol.Decode(protocol.TypeSetAttr, frame[protocol.HeaderSize:])
		if err != nil {
			t.Fatal(err)
		}
		if got := attrFromWire(&m.(*protocol.SetAttr).Attr); !cmp.Equal(got, a) {
			t.Error(cmp.Diff(a, got))
		}
	}
}

func TestUploadsTravel(t *testing.T) {
	u := tree.Upload{
		Path: "d/a", Size: 5 << 20, Source: tree.Identity{Size: 1, Mtime: 2, Ctime: 3, Inode: 4}, Origin: "m:/a",
		ChunkSize: 2 << 20, Resume: true, NoReplace: true, Verify: tree.VerifyFull, Fsync: tree.FsyncAlways,
	}
	for range 2 {
		if got := beginFromWire(beginToWire(u, 3)); !cmp.Equal(got, u) {
			t.Error(cmp.Diff(u, got))
		}
		u.Resume, u.NoReplace, u.Sparse, u.InPlace, u.Fsync = false, false, true, true, tree.FsyncOff
	}
	s := tree.Small{
		Path: "d/b", Data: []byte("data"), Digest: tree.Digest{1}, Origin: "m:/b", NoReplace: true,
		Verify: tree.VerifyFull, Fsync: tree.FsyncAlways, Attr: tree.Attr{Perm: new(tree.Perm(0o600))},
	}
	if got := putFromWire(putToWire(s, 0), s.Data); !cmp.Equal(got, s) {
		t.Error(cmp.Diff(s, got))
	}
}

func TestValuesOfBothSidesAgree(t *testing.T) {
	for _, tt := range []struct{ got, want any }{
		{openToWire(tree.OpenRead), protocol.OpenRead},
		{openToWire(tree.OpenWrite), protocol.OpenWrite},
		{openToWire(tree.OpenCreate), protocol.OpenCreate},
		{openToWire(tree.OpenExclusive), protocol.OpenExclusive},
		{openToWire(tree.OpenTruncate), protocol.OpenTruncate},
		{openToWire(tree.OpenAppend), protocol.OpenAppend},
		{openFromWire(protocol.OpenAppend), tree.OpenAppend},
		{renameToWire(tree.RenameNoReplace), protocol.RenameNoReplace},
		{renameFromWire(protocol.RenameReplace), tree.RenameReplace},
		{verifyToWire(tree.VerifyFast), protocol.VerifyFast},
		{verifyToWire(tree.VerifyFull), protocol.VerifyFull},
		{fsyncToWire(tree.FsyncAuto), protocol.FsyncAuto},
		{fsyncToWire(tree.FsyncAlways), protocol.FsyncAlways},
		{fsyncToWire(tree.FsyncOff), protocol.FsyncOff},
		{protocol.Kind(tree.KindFile), protocol.KindFile},
		{protocol.Kind(tree.KindBlockDevice), protocol.KindBlockDevice},
	} {
		if tt.got != tt.want {
			t.Errorf("%v is not %v", tt.got, tt.want)
		}
	}
	for _, r := range []tree.Receipt{
		{Verified: tree.VerifiedDigest}, {Verified: tree.VerifiedSampled, Volatile: true}, {Verified: tree.VerifiedFull},
	} {
		if got := receiptFromWire(receiptToWire(r)); got != r {
			t.Errorf("%v arrives as %v", r, got)
		}
	}
	space := tree.Space{
		BlockSize: 1, Total: 2, Free: 3, Available: 4, Files: 5, FilesFree: 6, FilesAvail: 7,
		FilesystemID: 8, MaxName: 9, ReadOnly: true, NoSuid: true,
	}
	if got := spaceFromWire(spaceToWire(space)); got != space {
		t.Error(cmp.Diff(space, got))
	}
	extents := []tree.Extent{{Offset: 1, Length: 2}}
	if got := extentsFromWire(extentsToWire(extents)); !cmp.Equal(got, extents) {
		t.Error(cmp.Diff(extents, got))
	}
	values := []tree.Value{{1}, {2}}
	if got := valuesFromWire(valuesToWire(values)); !cmp.Equal(got, values) {
		t.Error(cmp.Diff(values, got))
	}
}
