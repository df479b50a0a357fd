//go:build linux

package sftp

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"transferd/internal/tree"
)

// Requests sent all at once end as if each had waited for the one before it,
// on a file that many of them touch.
func TestPipelinedRequestsKeepTheirOrder(t *testing.T) {
	for seed := range uint64(20) {
		d := newDiskFS(t)
		writeFile(t, d, "f", strings.Repeat("-", 64))
		model := bytes.Repeat([]byte("-"), 64)
		p := serve(t, d, ServerOptions{})
		h := p.open("f", openRead|openWrite)
		rng := rand.New(rand.NewPCG(seed, 1))
		want := make(map[uint32]string) // what READs answer
		var all []byte
		for range 200 {
			off, n := rng.IntN(48), 1+rng.IntN(16)
			switch rng.IntN(6) {
			case 0, 1:
				data := bytes.Repeat([]byte{'a' + byte(rng.IntN(26))}, n)
				all = append(all, p.request(typeWrite, h, uint64(off), data)...)
				model = put(model, off, data)
			case 2, 3:
				all = append(all, p.request(typeRead, h, uint64(off), uint32(n))...)
				want[p.next] = string(model[min(off, len(model)):min(off+n, len(model))])
			case 4:
				all = append(all, p.request(typeSetstat, "f", attrs{flags: attrSize, size: uint64(off)})...)
				model = resize(model, off)
			case 5:
				all = append(all, p.request(typeFsetstat, h, attrs{flags: attrSize, size: uint64(off + n)})...)
				model = resize(model, off+n)
			}
		}
		go func() { _, _ = p.conn.Write(all) }()
		for range 200 {
			got := p.read()
			c := got.body()
			id := c.uint32()
			data, isRead := want[id]
			switch {
			case isRead && got.kind() == typeData && string(c.bytes()) == data:
			case isRead && data == "" && got.kind() == typeStatus && c.status().code == codeEOF:
			case !isRead && c.status().code == codeOK:
			default:
				t.Fatalf("seed %d: request %d answered with type %d, want %q", seed, id, got.kind(), data)
			}
		}
		if got := readFile(t, d, "f"); got != string(model) {
			t.Fatalf("seed %d: file is %q, want %q", seed, got, model)
		}
	}
}

func put(model []byte, off int, data []byte) []byte {
	if end := off + len(data); end > len(model) {
		model = resize(model, end)
	}
	copy(model[off:], data)
	return model
}

func resize(model []byte, n int) []byte {
	if n <= len(model) {
		return model[:n:n]
	}
	return append(model, make([]byte, n-len(model))...)
}

// What makes and removes names is in order too, whoever answers it.
func TestPipelinedNamesKeepTheirOrder(t *testing.T) {
	p := serve(t, newDiskFS(t), ServerOptions{})
	var all []byte
	const rounds = 50
	for range rounds {
		all = append(all, p.request(typeMkdir, "d", attrs{})...)
		all = append(all, p.request(typeRename, "d", "e")...)
		all = append(all, p.request(typeLstat, "e")...)
		all = append(all, p.request(typeRmdir, "e")...)
	}
	go func() { _, _ = p.conn.Write(all) }()
	for n := range 4 * rounds {
		got := p.read()
		c := got.body()
		if id := c.uint32(); got.kind() == typeStatus && c.status().code != codeOK {
			t.Fatalf("answer %d, to request %d, is no success", n, id)
		}
	}
}

// Golden packets: what a client sends, and every byte of what it gets.
func TestGoldenSession(t *testing.T) {
	d := newDiskFS(t)
	p := dialServer(t, d, ServerOptions{Allow: []string{"open", "write", "close", "fsync", "realpath"}})
	for _, x := range []struct{ name, send, want string }{
		{"INIT", "00000005 01 00000003", "0000001f 02 00000003 00000011 6673796e63406f70656e7373682e636f6d 00000001 31"},
		{
			"OPEN f, write, create and truncate, 0600",
			"00000016 03 00000001 00000001 66 0000001a 00000004 00008180",
			"0000000a 66 00000001 00000001 31",
		},
		{"WRITE abc at 2", "00000019 06 00000002 00000001 31 0000000000000002 00000003 616263", "00000018 65 00000002 00000000 00000007 53756363657373 00000000"},
		{"fsync", "0000001f c8 00000003 00000011 6673796e63406f70656e7373682e636f6d 00000001 31", "00000018 65 00000003 00000000 00000007 53756363657373 00000000"},
		{"CLOSE", "0000000a 04 00000004 00000001 31", "00000011 65 00000004 00000000 00000000 00000000"},
		{"REALPATH .", "0000000a 10 00000005 00000001 2e", "00000017 68 00000005 00000001 00000001 2f 00000001 2f 00000000"},
		{"STAT is not allowed", "0000000a 11 00000006 00000001 66", "00000022 65 00000006 00000003 00000011 5065726d697373696f6e2064656e696564 00000000"},
	} {
		p.write(unhex(t, x.send))
		frame, err := p.in.nextFrame()
		if err != nil {
			t.Fatalf("%s: %v", x.name, err)
		}
		got := hex.EncodeToString(frame)
		if want := strings.ReplaceAll(x.want, " ", ""); got != want {
			t.Errorf("%s: answer %s, want %s", x.name, got, want)
		}
	}
	if got := readFile(t, d, "f"); got != "\x00\x00abc" {
		t.Errorf("file is %q", got)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sink is a channel from which packets come and that swallows replies.
type sink struct{ io.Reader }

func (sink) Write(p []byte) (int, error) { return len(p), nil }
func (sink) Close() error                { return nil }

// nowhere is a file that takes writes.
type nowhere struct{ tree.File }

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

func TestWriteAllocatesNothing(t *testing.T) {
	var stream bytes.Buffer
	i := newInterposer(&server{ctx: t.Context()}, sink{&stream})
	i.greeted = true
	i.handles["1"] = &handle{file: nowhere{}}
	frame := requestPacket(typeWrite, 1, "1", uint64(0), make([]byte, 32<<10))
	stream.Grow(64 * len(frame))
	got := testing.AllocsPerRun(100, func() {
		stream.Reset()
		for range 8 {
			stream.Write(frame)
		}
		if _, err := i.Read(nil); err != io.EOF { //nolint:errorlint // exactly that
			t.Fatal(err)
		}
	})
	if got > 0 {
		t.Errorf("8 WRITEs allocate %v times, want none", got)
	}
}

func FuzzServer(f *testing.F) {
	init := "00000005 01 00000003"
	for _, seed := range []string{
		init,
		init + "00000016 03 00000001 00000001 66 0000001a 00000004 00008180" +
			"00000019 06 00000002 00000001 31 0000000000000002 00000003 616263" +
			"00000016 05 00000003 00000001 31 0000000000000000 00000010" +
			"0000000a 08 00000004 00000001 31" + "0000000a 04 00000005 00000001 31",
		init + "0000000a 0b 00000001 00000001 2f 0000000a 0c 00000002 00000001 31 0000000a 0c 00000003 00000001 31",
	} {
		f.Add(unhex(f, seed))
	}
	for _, r := range requests {
		kind, fields := r.kind, []any{"f", "1", uint64(1), uint32(0)}
		if r.extension != "" {
			kind, fields = typeExtended, []any{r.extension, "1", "f", uint64(1)}
		}
		f.Add(append(unhex(f, init), requestPacket(kind, 7, fields...)...))
	}
	d := newDiskFS(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = ours.Write(data)
			_ = ours.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		// Symlinks are left out, so that nothing leads out of the directory.
		_ = Serve(context.Background(), theirs, d, ServerOptions{Deny: []string{"symlink"}, MaxHandles: 4})
	})
}

func FuzzPacketReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 3}, uint8(1))
	f.Add([]byte{0, 0, 0, 5, 1, 0, 0, 0, 3, 0, 4, 0, 1}, uint8(3))
	f.Add(append([]byte{0, 0, 160, 0}, make([]byte, 40<<10)...), uint8(200))
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		whole := packetReader{r: bytes.NewReader(data)}
		pieces := packetReader{r: slowReader{bytes.NewReader(data), 1 + int(step)}}
		for {
			a, aerr := whole.next()
			b, berr := pieces.next()
			if !bytes.Equal(a, b) || (aerr == nil) != (berr == nil) || aerr != nil && aerr.Error() != berr.Error() {
				t.Fatalf("%d bytes, %v, and in pieces of %d %d bytes, %v", len(a), aerr, step, len(b), berr)
			}
			if aerr != nil {
				return
			}
			if len(a) == 0 || len(a) > maxPacket || len(whole.buf) > largeBuffer {
				t.Fatalf("packet of %d bytes in a buffer of %d", len(a), len(whole.buf))
			}
			c := a.body()
			c.attrs()
			c.bytes()
			c.status()
		}
	})
}

type slowReader struct {
	r    io.Reader
	step int
}

func (s slowReader) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.step)]) }

// A client that vanishes with everything in flight leaves nothing behind.
func TestVanishedClientLeaksNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	d := newDiskFS(t)
	writeFile(t, d, "f", strings.Repeat("x", 1<<20))
	before := openFiles(t)
	for cut := range 40 {
		p := serve(t, d, ServerOptions{})
		h := p.open("f", openRead|openWrite)
		all := p.request(typeOpendir, "/")
		for n := range uint64(40) {
			all = append(all, p.request(typeRead, h, n*100, uint32(32<<10))...)
			all = append(all, p.request(typeOpen, "f", uint32(openRead), attrs{})...)
			all = append(all, p.request(typeWrite, h, n*100, "y")...)
		}
		go func() { _, _ = p.conn.Write(all) }()
		for range cut {
			p.read()
		}
		_ = p.end() // nil or not, as far as it had come
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, %d before", after, before)
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
