package native

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"transferd/protocol"
)

const (
	// maxWindow is what a decoder keeps of what it has made: the least that RFC
	// 8878 wants of every decoder, and more than any payload needs.
	maxWindow = 8 << 20

	// sample is how much is compressed to find out whether the rest is worth it,
	// and worth the most of it that may be left, in percent.
	sample = 16 << 10
	worth  = 85

	// patience is the most payloads in a row that are sent without trying, of a
	// file that did not become smaller.
	patience = 32
)

// payloads makes payloads of bytes, and bytes of payloads. The zero value is
// ready; it is safe for concurrent use, and one does for all streams of an end.
type payloads struct {
	encoding, decoding sync.Once
	encoder            *zstd.Encoder // nil where it cannot be made
	decoder            *zstd.Decoder

	scratch sync.Pool // *[]byte, each of MaxData bytes

	zeroing sync.Once
	hole    []byte
}

// zeros returns MaxChunk zeros, which nobody writes to.
func (z *payloads) zeros() []byte {
	z.zeroing.Do(func() { z.hole = make([]byte, protocol.MaxChunk) })
	return z.hole
}

// errPayload is a zstd frame that is none, or of another length.
func errPayload(t protocol.Type) error {
	return &protocol.Error{Code: protocol.CodeBadMessage, Type: t, Field: "payload"}
}

// room returns MaxData bytes of memory; giveBack takes them.
func (z *payloads) room() *[]byte {
	if b, ok := z.scratch.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, protocol.MaxData, protocol.MaxData+sample) // what does not shrink grows by a little
	return &b
}

func (z *payloads) giveBack(b *[]byte) { z.scratch.Put(b) }

// unpack fills dst with what the payload of a frame of type t is. No memory is
// made beyond one block of zstd (128 KiB), whatever the payload says. The error
// is a *protocol.Error.
func (z *payloads) unpack(t protocol.Type, dst []byte, e protocol.Encoding, payload []byte) error {
	switch e {
	case protocol.EncodingRaw:
		if copy(dst, payload) != len(dst) || len(payload) != len(dst) {
			return errPayload(t)
		}
	case protocol.EncodingHole:
		clear(dst)
	case protocol.EncodingZstd:
		z.decoding.Do(func() {
			z.decoder, _ = zstd.NewReader(nil, // fails on options alone
				zstd.WithDecoderMaxMemory(protocol.MaxData), zstd.WithDecoderMaxWindow(maxWindow),
				zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderLowmem(true))
		})
		made, err := z.decoder.DecodeAll(payload, dst[:0:len(dst)])
		if err != nil || len(made) != len(dst) || len(dst) > 0 && &made[0] != &dst[0] {
			return errPayload(t)
		}
	}
	return nil
}

// receive reads the payload of the DATA m, which s.next returned, to dst, whose
// length is m's. An error that is a *protocol.Error means a broken peer, others
// are the stream's end.
func (z *payloads) receive(s *stream, m *protocol.Data, dst []byte) error {
	switch m.Encoding {
	case protocol.EncodingRaw:
		_, err := io.ReadFull(s, dst)
		if err != nil && s.cause() == nil {
			return errPayload(protocol.TypeData) // shorter than dst, which is the caller's mistake
		}
		return err
	case protocol.EncodingZstd:
		b := z.room()
		defer z.giveBack(b)
		n := s.left()
		if n > len(*b) {
			return errPayload(protocol.TypeData)
		}
		if _, err := io.ReadFull(s, (*b)[:n]); err != nil {
			return err
		}
		return z.unpack(protocol.TypeData, dst, m.Encoding, (*b)[:n])
	case protocol.EncodingHole:
		clear(dst)
	}
	return nil
}

// pack compresses src behind dst, and reports whether that is clearly smaller;
// what it is then was appended to dst.
func (z *payloads) pack(dst, src []byte) ([]byte, bool) {
	z.encoding.Do(func() {
		z.encoder, _ = zstd.NewWriter(nil, // fails on options alone
			zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), // the value sees more
			zstd.WithWindowSize(protocol.MaxData), zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true))
	})
	if len(src) == 0 {
		return dst, false
	}
	made := z.encoder.EncodeAll(src, dst)
	if n := len(made) - len(dst); n == 0 || n*100 > len(src)*worth {
		return made[:len(dst)], false
	}
	return made, true
}

// A squeeze remembers of one file, or of all small ones, whether compressing it
// pays. The zero value is ready; it is safe for concurrent use.
type squeeze struct {
	mu    sync.Mutex
	skip  int // payloads to send without trying
	again int // skip after the next failure
}

// pack is payloads.pack, except that it looks at a sample of long payloads
// first, and lets most of a file alone that did not shrink so far.
func (q *squeeze) pack(z *payloads, dst, src []byte) ([]byte, bool) {
	q.mu.Lock()
	if q.skip > 0 {
		q.skip--
		q.mu.Unlock()
		return dst, false
	}
	q.mu.Unlock()
	if len(src) > 4*sample {
		middle := src[len(src)/2:][:sample]
		if made, ok := z.pack(dst, middle); !ok {
			q.note(false)
			return made[:len(dst)], false
		}
	}
	made, ok := z.pack(dst, src)
	q.note(ok)
	return made, ok
}

func (q *squeeze) note(shrunk bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if shrunk {
		q.skip, q.again = 0, 0
		return
	}
	q.again = min(max(1, 2*q.again), patience)
	q.skip = q.again
}

// hasZstd reports whether a hello says that its sender understands zstd.
func hasZstd(extensions []protocol.Extension) bool {
	for _, e := range extensions {
		if e.Name == extensionZstd {
			return true
		}
	}
	return false
}

// extensionZstd is the extension of docs/protocol.md, section 12.
const extensionZstd = "zstd"

// isBroken reports whether err says that the peer sent what it must not.
func isBroken(err error) (*protocol.Error, bool) {
	var broken *protocol.Error
	ok := errors.As(err, &broken)
	return broken, ok
}
