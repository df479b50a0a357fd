package native

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/zstd"

	"transferd/protocol"
)

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestPackAndUnpack(t *testing.T) {
	var z payloads
	text := bytes.Repeat([]byte("all work and no play makes Jack a dull boy\n"), protocol.MaxData/43)
	for name, c := range map[string]struct {
		src    []byte
		shrink bool
	}{
		"text":       {text, true},
		"short text": {text[:200], true},
		"zeros":      {make([]byte, protocol.MaxData), true},
		"noise":      {noise(protocol.MaxData), false},
		"one byte":   {[]byte("a"), false},
		"empty":      {nil, false},
	} {
		b := z.room()
		packed, ok := z.pack((*b)[:0], c.src)
		if ok != c.shrink {
			t.Errorf("%s: shrunk %v, want %v", name, ok, c.shrink)
		}
		if ok {
			got := make([]byte, len(c.src))
			if err := z.unpack(protocol.TypeData, got, protocol.EncodingZstd, packed); err != nil || !bytes.Equal(got, c.src) {
				t.Errorf("%s: unpack: %v", name, err)
			}
			for _, n := range []int{0, len(c.src) - 1} {
				if err := z.unpack(protocol.TypeData, make([]byte, n), protocol.EncodingZstd, packed); err == nil {
					t.Errorf("%s: unpacked to %d bytes of %d", name, n, len(c.src))
				}
			}
			if err := z.unpack(protocol.TypeData, make([]byte, len(c.src)+1), protocol.EncodingZstd, packed); err == nil {
				t.Errorf("%s: unpacked to a byte too many", name)
			}
			if err := z.unpack(protocol.TypeData, got, protocol.EncodingZstd, packed[:len(packed)-1]); err == nil {
				t.Errorf("%s: unpacked what was cut short", name)
			}
		}
		z.giveBack(b)
	}
}

// bomb is a zstd frame, without its length in front, of n zeros.
func bomb(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestABombMakesNoMemory(t *testing.T) {
	var z payloads
	big := bomb(t, 256<<20)
	dst := make([]byte, 1000)
	if err := z.unpack(protocol.TypeData, dst, protocol.EncodingZstd, big); err == nil {
		t.Fatal("unpacked")
	}
	result := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		for range b.N {
			_ = z.unpack(protocol.TypeData, dst, protocol.EncodingZstd, big)
		}
	})
	if n := result.AllocedBytesPerOp(); n > 1<<20 {
		t.Errorf("%d bytes allocated for a payload of 1000", n)
	}
}

func TestASqueezeGivesUpAndTriesAgain(t *testing.T) {
	var z payloads
	var q squeeze
	hard, soft := noise(protocol.MaxData), make([]byte, protocol.MaxData)
	b := z.room()
	for range 100 {
		if _, ok := q.pack(&z, (*b)[:0], hard); ok {
			t.Fatal("noise shrank")
		}
	}
	tries := 0
	for {
		tries++
		if _, ok := q.pack(&z, (*b)[:0], soft); ok {
			break
		}
	}
	if tries == 1 || tries > patience+1 {
		t.Errorf("zeros were tried after %d payloads", tries)
	}
	if _, ok := q.pack(&z, (*b)[:0], soft); !ok {
		t.Error("not at once after it paid")
	}
}

func FuzzUnpack(f *testing.F) {
	var z payloads
	packed, _ := z.pack(nil, bytes.Repeat([]byte("abc"), 1000))
	f.Add(packed, 3000)
	f.Add(bomb(f, 1<<20), 3000)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, payload []byte, n int) {
		if n < 0 || n > protocol.MaxData {
			return
		}
		whole := make([]byte, n+64)
		for i := range whole[n:] {
			whole[n+i] = 0xa5
		}
		_ = z.unpack(protocol.TypeData, whole[:n], protocol.EncodingZstd, payload)
		if !bytes.Equal(whole[n:], bytes.Repeat([]byte{0xa5}, 64)) {
			t.Error("wrote behind the end")
		}
	})
}
