//go:build linux

package sftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"transferd/internal/tree"
)

// A peer is a client of a served session that speaks in single packets.
type peer struct {
	t    testing.TB
	conn net.Conn
	in   packetReader
	done chan error
	next uint32
}

// serve starts a session of fs and greets it.
func serve(t testing.TB, fs tree.FS, o ServerOptions) *peer {
	t.Helper()
	p := dialServer(t, fs, o)
	var w builder
	w.begin(typeInit)
	w.uint32(3)
	w.end()
	p.write(w.b)
	if got := p.read(); got.kind() != typeVersion {
		t.Fatalf("INIT answered with type %d", got.kind())
	}
	return p
}

func dialServer(t testing.TB, fs tree.FS, o ServerOptions) *peer {
	t.Helper()
	ours, theirs := net.Pipe()
	p := &peer{t: t, conn: ours, in: packetReader{r: ours}, done: make(chan error, 1)}
	go func() { p.done <- Serve(context.Background(), theirs, fs, o) }()
	t.Cleanup(func() { _ = ours.Close() })
	return p
}

func (p *peer) write(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

// read returns the next packet, its own copy.
func (p *peer) read() packet {
	p.t.Helper()
	got, err := p.in.next()
	if err != nil {
		p.t.Fatal(err)
	}
	return bytes.Clone(got)
}

// end hangs up and returns what Serve returned.
func (p *peer) end() error {
	p.t.Helper()
	_ = p.conn.Close()
	return <-p.done
}

// request builds a request; fields are string, uint32, uint64 or attrs.
func (p *peer) request(kind packetType, fields ...any) []byte {
	p.next++
	return requestPacket(kind, p.next, fields...)
}

func requestPacket(kind packetType, id uint32, fields ...any) []byte {
	var w builder
	w.begin(kind)
	w.uint32(id)
	for _, f := range fields {
		switch f := f.(type) {
		case string:
			w.text(f)
		case []byte:
			w.bytes(f)
		case uint32:
			w.uint32(f)
		case uint64:
			w.uint64(f)
		case attrs:
			w.attrs(f)
		default:
			panic(f)
		}
	}
	w.end()
	return w.b
}

// call sends a request and returns its answer.
func (p *peer) call(kind packetType, fields ...any) (packetType, cursor) {
	p.t.Helper()
	p.write(p.request(kind, fields...))
	got := p.read()
	c := got.body()
	if id := c.uint32(); id != p.next {
		p.t.Fatalf("answer to request %d, want %d", id, p.next)
	}
	return got.kind(), c
}

// status calls and wants a STATUS.
func (p *peer) status(kind packetType, fields ...any) status {
	p.t.Helper()
	got, c := p.call(kind, fields...)
	if got != typeStatus {
		p.t.Fatalf("request %d answered with type %d, want STATUS", kind, got)
	}
	return c.status()
}

// ok calls and wants success.
func (p *peer) ok(kind packetType, fields ...any) {
	p.t.Helper()
	if got := p.status(kind, fields...); got.code != codeOK {
		p.t.Fatalf("request %d %q: %v", kind, fields, got)
	}
}

func (p *peer) open(name string, flags uint32) string {
	p.t.Helper()
	got, c := p.call(typeOpen, name, flags, attrs{})
	if got != typeHandle {
		p.t.Fatalf("OPEN %q: %v", name, c.status())
	}
	return c.text()
}

func writeFile(t testing.TB, d diskFS, name, data string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.root, name), []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readFile(t testing.TB, d diskFS, name string) string {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(d.root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestVersionAnnouncesExtensions(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    ServerOptions
		want []string
	}{
		{"all", ServerOptions{}, []string{
			extPosixRename, extStatVFS, extFstatVFS, extHardlink, extFsync, extLsetstat, extLimits,
			extExpandPath, extCopyData, extHomeDir, extNamesByID,
		}},
		{"read only", ServerOptions{ReadOnly: true}, []string{extStatVFS, extFstatVFS, extLimits, extExpandPath, extHomeDir, extNamesByID}},
		{"denied", ServerOptions{ReadOnly: true, Deny: []string{"limits", "statvfs"}}, []string{extFstatVFS, extExpandPath, extHomeDir, extNamesByID}},
		{"allowed", ServerOptions{Allow: []string{"open", "fsync"}}, []string{extFsync}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			p := dialServer(t, newDiskFS(t), tt.o)
			p.write([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3})
			c := p.read().body()
			if v := c.uint32(); v != 3 {
				t.Errorf("version %d, want 3", v)
			}
			var got []string
			for len(c.b) > 0 && c.err == nil {
				got = append(got, c.text())
				c.text()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || c.err != nil {
				t.Errorf("extensions (-want +got):\n%s%v", diff, c.err)
			}
			if err := p.end(); err != nil {
				t.Errorf("Serve = %v, want nil", err)
			}
		})
	}
}

func TestWritesKeepEveryByte(t *testing.T) {
	type write struct {
		off  uint64
		data string
	}
	for _, tt := range []struct {
		name   string
		before string
		flags  uint32
		writes []write
		want   string
	}{
		{"in order", "", openWrite | openCreate | openTrunc, []write{{0, "abc"}, {3, "def"}}, "abcdef"},
		{"backwards", "", openWrite | openCreate | openTrunc, []write{{3, "def"}, {0, "abc"}}, "abcdef"},
		{"truncated", "0123456789", openWrite | openTrunc, []write{{0, "abc"}}, "abc"},
		{"not truncated", "0123456789", openWrite, []write{{2, "ab"}}, "01ab456789"},
		{"overlapping", "", openWrite | openCreate, []write{{0, "aaaa"}, {2, "bbbb"}, {1, "c"}}, "acbbbb"},
		{"beyond the end", "x", openWrite, []write{{4, "y"}}, "x\x00\x00\x00y"},
		{"append ignores offsets", "x", openWrite | openAppend, []write{{0, "y"}, {0, "z"}}, "xyz"},
		{"nothing", "x", openWrite, []write{{9, ""}}, "x"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDiskFS(t)
			if tt.before != "" {
				writeFile(t, d, "f", tt.before)
			}
			p := serve(t, d, ServerOptions{})
			h := p.open("f", tt.flags)
			for _, w := range tt.writes {
				p.ok(typeWrite, h, w.off, w.data)
			}
			p.ok(typeClose, h)
			if got := readFile(t, d, "f"); got != tt.want {
				t.Errorf("file is %q, want %q", got, tt.want)
			}
		})
	}
}

// slowFS delays writes by how much work they are, so that parallel ones would
// land out of order, and records them.
type slowFS struct {
	diskFS
	order chan uint64
	gate  chan struct{} // each write takes one
}

type slowFile struct {
	tree.File
	fs slowFS
}

func (s slowFS) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	f, err := s.diskFS.OpenFile(ctx, p, flags, perm)
	return slowFile{f, s}, err
}

func (f slowFile) WriteAt(p []byte, off int64) (int, error) {
	<-f.fs.gate
	f.fs.order <- uint64(off)
	return f.File.WriteAt(p, off)
}

func TestWritesLandInOrderOfArrival(t *testing.T) {
	const n = 100
	fs := slowFS{newDiskFS(t), make(chan uint64, n), make(chan struct{}, n)}
	p := serve(t, fs, ServerOptions{})
	h := p.open("f", openWrite|openCreate)
	var all []byte
	for i := range uint64(n) {
		all = append(all, p.request(typeWrite, h, i*1000, strings.Repeat("x", 1000))...)
	}
	sent, answered := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := p.conn.Write(all)
		sent <- err
	}()
	go func() {
		var err error
		for range n {
			if _, err = p.in.next(); err != nil {
				break
			}
		}
		answered <- err
	}()
	for i := range uint64(n) {
		select {
		case off := <-fs.order:
			t.Fatalf("write at %d was done beside the one before it", off)
		default:
		}
		fs.gate <- struct{}{}
		if off := <-fs.order; off != i*1000 {
			t.Fatalf("write %d is at %d, want %d", i, off, i*1000)
		}
	}
	if err := errors.Join(<-sent, <-answered); err != nil {
		t.Fatal(err)
	}
}

// What arrived whole before the client died is in the file; what did not, is not.
func TestClientDiesWithinAPacket(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	d := newDiskFS(t)
	p := serve(t, d, ServerOptions{})
	h := p.open("f", openWrite|openCreate)
	var all []byte
	for i := range uint64(10) {
		all = append(all, p.request(typeWrite, h, i*4, "data")...)
	}
	p.write(all[:len(all)-1])
	if err := p.end(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("Serve = %v, want %v", err, io.ErrUnexpectedEOF)
	}
	if got, want := readFile(t, d, "f"), strings.Repeat("data", 9); got != want {
		t.Errorf("file is %q, want %q", got, want)
	}
}

func TestGarbageEndsTheSession(t *testing.T) {
	init := []byte{0, 0, 0, 5, 1, 0, 0, 0, 3}
	for _, tt := range []struct {
		name  string
		bytes []byte
	}{
		{"no packet", []byte("SSH-2.0-OpenSSH_9.2\r\n")},
		{"empty packet", []byte{0, 0, 0, 0}},
		{"too long", append(init, 0, 4, 0, 1, 3)},
		{"request before INIT", requestPacket(typeStat, 1, "/")},
		{"INIT twice", append(init, init...)},
		{"no id", append(init, 0, 0, 0, 1, 17)},
		{"string runs over", append(init, 0, 0, 0, 9, 17, 0, 0, 0, 1, 0, 0, 0, 9)},
		{"string of 4 GiB", append(init, 0, 0, 0, 9, 17, 0, 0, 0, 1, 255, 255, 255, 255)},
		{"WRITE without data", append(init, requestPacket(typeWrite, 1, "1", uint64(0))...)},
		{"OPEN without attributes", append(init, requestPacket(typeOpen, 1, "f", uint32(1))...)},
		{"extended attributes without end", append(init, requestPacket(typeOpen, 1, "f", uint32(1), uint32(attrExtended), uint32(1<<31))...)},
		{"SETSTAT cut short", append(init, requestPacket(typeSetstat, 1, "f", uint32(attrSize), uint32(1))...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			p := dialServer(t, newDiskFS(t), ServerOptions{})
			go func() { _, _ = io.Copy(io.Discard, p.conn) }()
			p.write(tt.bytes)
			if err := <-p.done; !errors.Is(err, errBadPacket) {
				t.Errorf("Serve = %v, want %v", err, errBadPacket)
			}
			_ = p.conn.Close()
		})
	}
}

func TestContextEndsTheSession(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ours, theirs := net.Pipe()
	defer func() { _ = ours.Close() }()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, theirs, newDiskFS(t), ServerOptions{}) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v, want %v", err, context.Canceled)
	}
}

// closeFS counts files that are open.
type closeFS struct {
	diskFS
	open chan struct{}
}

type closeFile struct {
	tree.File
	fs closeFS
}

func (c closeFS) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	f, err := c.diskFS.OpenFile(ctx, p, flags, perm)
	if err == nil {
		c.open <- struct{}{}
	}
	return closeFile{f, c}, err
}

func (f closeFile) Close() error {
	<-f.fs.open
	return f.File.Close()
}

func TestHandles(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	fs := closeFS{newDiskFS(t), make(chan struct{}, 10)}
	writeFile(t, fs.diskFS, "f", "data")
	p := serve(t, fs, ServerOptions{MaxHandles: 3})
	first, second := p.open("f", openRead), p.open("f", openRead)
	if got := p.status(typeOpen, "missing", uint32(openRead), attrs{}); got.code != codeNoSuchFile {
		t.Errorf("OPEN of a missing file: %v", got)
	}
	if kind, _ := p.call(typeOpendir, "/"); kind != typeHandle {
		t.Errorf("OPENDIR answered with type %d", kind)
	}
	want := status{codeFailure, "Too many open handles"}
	if got := p.status(typeOpen, "f", uint32(openRead), attrs{}); got != want {
		t.Errorf("fourth OPEN: %v, want %v", got, want)
	}
	p.ok(typeClose, first)
	if got := p.status(typeClose, first); got.code != codeFailure {
		t.Errorf("second CLOSE: %v", got)
	}
	third := p.open("f", openWrite)
	for _, tt := range []struct {
		name   string
		kind   packetType
		fields []any
	}{
		{"READ of a closed handle", typeRead, []any{first, uint64(0), uint32(10)}},
		{"READ of a handle that never was", typeRead, []any{"", uint64(0), uint32(10)}},
		// pkg/sftp by itself would write what its buffer holds into the file.
		{"READ of a handle for writing", typeRead, []any{third, uint64(0), uint32(10)}},
		{"READDIR of a file", typeReaddir, []any{second}},
		{"FSTAT of a closed handle", typeFstat, []any{first}},
		{"fsync of a closed handle", typeExtended, []any{extFsync, first}},
	} {
		if got, want := p.status(tt.kind, tt.fields...), (status{codeFailure, "Invalid handle"}); got != want {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
	}
	if got := p.status(typeWrite, second, uint64(0), "x"); got.code == codeOK {
		t.Error("WRITE to a handle for reading succeeded")
	}
	if got := readFile(t, fs.diskFS, "f"); got != "data" {
		t.Errorf("file is %q, want %q", got, "data")
	}
	if err := p.end(); err != nil {
		t.Errorf("Serve = %v, want nil", err)
	}
	if n := len(fs.open); n != 0 {
		t.Errorf("%d files are open after the session", n)
	}
}

func TestMergedReply(t *testing.T) {
	d := newDiskFS(t)
	writeFile(t, d, "f", strings.Repeat("0123456789abcdef", maxPacket/16))
	p := serve(t, d, ServerOptions{})
	h := p.open("f", openRead)
	for _, ask := range []uint32{1, 32 << 10, maxData, math32} {
		p.write(p.request(typeRead, h, uint64(5), ask))
		frame := make([]byte, 4+maxPacket)
		n, err := p.conn.Read(frame) // net.Pipe: what one Write wrote
		if err != nil {
			t.Fatal(err)
		}
		if got := binary.BigEndian.Uint32(frame); int(got)+4 != n {
			t.Errorf("READ of %d: reply of %d bytes came in a write of %d", ask, got+4, n)
		}
		want := min(int(ask), maxPacket-9, 16*(maxPacket/16)-5)
		c := packet(frame[4:n]).body()
		c.uint32()
		if data := c.bytes(); len(data) != want || !strings.HasPrefix("56789abcdef01234", string(data[:1])) {
			t.Errorf("READ of %d: %d bytes, want %d", ask, len(data), want)
		}
	}
	if got := p.status(typeRead, h, uint64(1<<62), uint32(1)); got.code != codeEOF {
		t.Errorf("READ behind the end: %v", got)
	}
	if got := p.status(typeRead, h, uint64(1<<63), uint32(1)); got.code != codeBadMessage {
		t.Errorf("READ at 2^63: %v", got)
	}
}

const math32 = 1<<32 - 1
