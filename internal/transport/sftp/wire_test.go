package sftp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"transferd/internal/tree"
)

func TestStatusOfErrors(t *testing.T) {
	host := func(err error) error { return &fs.PathError{Op: "open", Path: "/srv/secret/alice/f", Err: err} }
	for _, tt := range []struct {
		err  error
		want status
	}{
		{nil, statusOK},
		{io.EOF, status{codeEOF, "End of file"}},
		{host(syscall.ENOENT), status{codeNoSuchFile, "No such file"}},
		{host(syscall.EACCES), status{codePermissionDenied, "Permission denied"}},
		{host(syscall.EPERM), status{codePermissionDenied, "Permission denied"}},
		{host(syscall.EEXIST), status{codeFailure, "File exists"}},
		{host(syscall.ENOTEMPTY), status{codeFailure, "Directory not empty"}},
		{host(syscall.ENOTDIR), status{codeNoSuchFile, "Not a directory"}},
		{host(syscall.EISDIR), status{codeFailure, "Is a directory"}},
		{host(syscall.ENOSPC), status{codeFailure, "No space left on device"}},
		{host(tree.ErrNoSpace), status{codeFailure, "No space left on device"}},
		{host(syscall.EDQUOT), status{codeFailure, "Quota exceeded"}},
		{host(syscall.EINVAL), status{codeBadMessage, "Invalid argument"}},
		{host(syscall.ENAMETOOLONG), status{codeBadMessage, "File name too long"}},
		{host(syscall.EIO), status{codeFailure, syscall.EIO.Error()}},
		{host(tree.ErrEscape), status{codePermissionDenied, "Path leads out of the tree"}},
		{host(errors.ErrUnsupported), status{codeUnsupported, "Operation unsupported"}},
		{host(syscall.ENOSYS), status{codeUnsupported, "Operation unsupported"}},
		{context.Canceled, status{codeConnectionLost, "Connection lost"}},
		{host(errors.New("disk /dev/sdb1 is on fire")), status{codeFailure, "Failure"}},
	} {
		if got := statusOf(tt.err); got != tt.want {
			t.Errorf("statusOf(%v) = %v, want %v", tt.err, got, tt.want)
		}
		var w builder
		w.status(7, statusOf(tt.err))
		c := packet(w.b[4:]).body()
		c.uint32()
		back := errorOf(c.status())
		if tt.err == nil && back != nil || tt.err != nil && back == nil || c.err != nil {
			t.Errorf("error %v became %v", tt.err, back)
		}
	}
}

func TestErrorsOfForeignStatuses(t *testing.T) {
	for _, tt := range []struct {
		status status
		want   error
	}{
		{status{codeNoSuchFile, "nix da"}, fs.ErrNotExist},
		{status{codePermissionDenied, ""}, fs.ErrPermission},
		{status{codeUnsupported, "no"}, errors.ErrUnsupported},
		{status{codeConnectionLost, ""}, tree.ErrLost},
		{status{codeEOF, ""}, io.EOF},
		{status{codeFailure, "No space left on device"}, tree.ErrNoSpace},
		{status{codeFailure, "File exists"}, fs.ErrExist},
		{status{codeFailure, "Failure"}, &StatusError{Code: 4, Text: "Failure"}},
		{status{99, "new"}, &StatusError{Code: 99, Text: "new"}},
	} {
		got := errorOf(tt.status)
		if !errors.Is(got, tt.want) && fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", tt.want) {
			t.Errorf("errorOf(%v) = %#v, want %#v", tt.status, got, tt.want)
		}
	}
}

func TestAttributesThereAndBack(t *testing.T) {
	all := attrs{
		flags: attrSize | attrOwner | attrPerm | attrTimes,
		size:  1<<63 + 5, uid: 1, gid: math.MaxUint32, mode: modeFile | 0o4755, atime: 3, mtime: math.MaxUint32,
	}
	for flags := range uint32(16) {
		want := attrs{flags: flags}
		if flags&attrSize != 0 {
			want.size = all.size
		}
		if flags&attrOwner != 0 {
			want.uid, want.gid = all.uid, all.gid
		}
		if flags&attrPerm != 0 {
			want.mode = all.mode
		}
		if flags&attrTimes != 0 {
			want.atime, want.mtime = all.atime, all.mtime
		}
		var w builder
		w.attrs(want)
		c := cursor{b: w.b}
		if got := c.attrs(); got != want || c.err != nil || len(c.b) != 0 {
			t.Errorf("attrs %#x there and back = %+v, %v, want %+v", flags, got, c.err, want)
		}
		for n := range w.b {
			if c := (cursor{b: w.b[:n]}); c.attrs() != (attrs{}) && c.err == nil {
				t.Errorf("%d of %d bytes of attrs %#x are taken for all", n, len(w.b), flags)
			}
		}
	}
}

func TestTimesThatVersion3CannotTell(t *testing.T) {
	for _, tt := range []struct {
		in   time.Time
		want uint32
	}{
		{time.Time{}, 0},
		{time.Unix(-1, 0), 0},
		{time.Unix(1, 999_999_999), 1},
		{time.Unix(1<<32-1, 0), math.MaxUint32},
		{time.Unix(1<<40, 0), math.MaxUint32},
	} {
		if got := secondsOf(tt.in); got != tt.want {
			t.Errorf("secondsOf(%v) = %d, want %d", tt.in, got, tt.want)
		}
	}
}

func TestEntriesThereAndBack(t *testing.T) {
	for kind := tree.KindUnknown; kind <= tree.KindBlockDevice; kind++ {
		want := tree.Entry{
			Name: "x", Kind: kind, Size: 5, Perm: 0o1644, Grain: time.Second, UID: 7, GID: 8,
			Mtime: time.Unix(100, 0), Atime: time.Unix(200, 0),
		}
		if diff := cmp.Diff(want, attrsOf(want).entry("x")); diff != "" {
			t.Errorf("%v (-want +got):\n%s", kind, diff)
		}
	}
}

func TestPacketReaderRefusesBeforeItAllocates(t *testing.T) {
	r := packetReader{r: bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3})}
	if _, err := r.next(); !errors.Is(err, errPacketTooLong) {
		t.Errorf("next = %v, want %v", err, errPacketTooLong)
	}
	if len(r.buf) > smallBuffer {
		t.Errorf("a buffer of %d bytes was made", len(r.buf))
	}
}

func TestPacketReaderEnds(t *testing.T) {
	for _, tt := range []struct {
		in   []byte
		want error
	}{
		{nil, io.EOF},
		{[]byte{0}, io.ErrUnexpectedEOF},
		{[]byte{0, 0, 0, 2, 1}, io.ErrUnexpectedEOF},
		{[]byte{0, 0, 0, 1, 1}, io.EOF},
	} {
		r := packetReader{r: bytes.NewReader(tt.in)}
		var err error
		for err == nil {
			_, err = r.next()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("reading %v ends with %v, want %v", tt.in, err, tt.want)
		}
	}
}
