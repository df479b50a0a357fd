// Package sftp speaks both ends of SFTP version 3 with OpenSSH's extensions
// over any byte stream: Serve shows a tree.FS to foreign clients, Client is the
// tree that a foreign server shows. It dials nothing and knows no disk.
//
// The protocol is draft-ietf-secsh-filexfer-02; the extensions are in OpenSSH's
// file PROTOCOL.
package sftp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A packetType is the first byte of a packet: draft-02, section 3.
type packetType byte

const (
	typeInit          packetType = 1
	typeVersion       packetType = 2
	typeOpen          packetType = 3
	typeClose         packetType = 4
	typeRead          packetType = 5
	typeWrite         packetType = 6
	typeLstat         packetType = 7
	typeFstat         packetType = 8
	typeSetstat       packetType = 9
	typeFsetstat      packetType = 10
	typeOpendir       packetType = 11
	typeReaddir       packetType = 12
	typeRemove        packetType = 13
	typeMkdir         packetType = 14
	typeRmdir         packetType = 15
	typeRealpath      packetType = 16
	typeStat          packetType = 17
	typeRename        packetType = 18
	typeReadlink      packetType = 19
	typeSymlink       packetType = 20
	typeStatus        packetType = 101
	typeHandle        packetType = 102
	typeData          packetType = 103
	typeName          packetType = 104
	typeAttrs         packetType = 105
	typeExtended      packetType = 200
	typeExtendedReply packetType = 201
)

// Flags of OPEN: draft-02, section 6.3.
const (
	openRead   = 0x01
	openWrite  = 0x02
	openAppend = 0x04
	openCreate = 0x08
	openTrunc  = 0x10
	openExcl   = 0x20
)

// Names of extended requests.
const (
	extPosixRename = "posix-rename@openssh.com"
	extStatVFS     = "statvfs@openssh.com"
	extFstatVFS    = "fstatvfs@openssh.com"
	extHardlink    = "hardlink@openssh.com"
	extFsync       = "fsync@openssh.com"
	extLsetstat    = "lsetstat@openssh.com"
	extLimits      = "limits@openssh.com"
	extExpandPath  = "expand-path@openssh.com"
	extCopyData    = "copy-data"
	extHomeDir     = "home-directory"
	extNamesByID   = "users-groups-by-id@openssh.com"
)

const (
	protocolVersion = 3

	// maxPacket bounds what follows a packet's length field. It is OpenSSH's
	// SFTP_MAX_MSG_LENGTH and pkg/sftp's maxMsgLength.
	maxPacket = 256 << 10

	// maxData is how much of a file one READ or WRITE may carry. OpenSSH
	// announces the same with limits@openssh.com: 1 KiB is left for the rest.
	maxData = maxPacket - 1<<10
)

var (
	// errBadPacket: the peer sent what is no packet. The stream is useless
	// from there on.
	errBadPacket = errors.New("malformed SFTP packet")

	// errPacketTooLong is an errBadPacket too.
	errPacketTooLong = fmt.Errorf("%w: longer than %d bytes", errBadPacket, maxPacket)
)

// A packet is what follows the length field: the type, then its fields.
type packet []byte

func (p packet) kind() packetType { return packetType(p[0]) }

// body returns a cursor at the first field.
func (p packet) body() cursor { return cursor{b: p[1:]} }

// A cursor decodes fields one after another. After the first that is not there
// all others are zero, so that a decoder is checked once, at its end.
type cursor struct {
	b   []byte
	err error
}

func (c *cursor) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > len(c.b) {
		c.err = errBadPacket
		c.b = nil
		return nil
	}
	field := c.b[:n:n]
	c.b = c.b[n:]
	return field
}

func (c *cursor) uint32() uint32 {
	if f := c.take(4); f != nil {
		return binary.BigEndian.Uint32(f)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if f := c.take(8); f != nil {
		return binary.BigEndian.Uint64(f)
	}
	return 0
}

// bytes returns a string field without copying it: valid as long as the packet.
func (c *cursor) bytes() []byte {
	n := c.uint32()
	if int64(n) > int64(len(c.b)) {
		n = 0
		if c.err == nil {
			c.err = errBadPacket
		}
	}
	return c.take(int(n))
}

func (c *cursor) text() string { return string(c.bytes()) }

// A builder encodes packets, one behind the other. The zero value is ready.
type builder struct {
	b     []byte
	start int // where the packet begins that is being built
}

func (w *builder) begin(t packetType) {
	w.start = len(w.b)
	w.b = append(w.b, 0, 0, 0, 0, byte(t))
}

// end sets the length of the packet that begin began.
func (w *builder) end() {
	//nolint:gosec // packets are built from parts that are bounded by maxPacket
	binary.BigEndian.PutUint32(w.b[w.start:], uint32(len(w.b)-w.start-4))
}

func (w *builder) uint32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }
func (w *builder) uint64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }

func (w *builder) text(s string) {
	w.uint32(uint32(len(s))) //nolint:gosec // see end
	w.b = append(w.b, s...)
}

func (w *builder) bytes(p []byte) {
	w.uint32(uint32(len(p))) //nolint:gosec // see end
	w.b = append(w.b, p...)
}

// reset forgets what was built and keeps the memory.
func (w *builder) reset() { w.b = w.b[:0] }

// Sizes of a packetReader's buffer. A session that only lists and stats stays
// with the small one; the large one holds every packet that is allowed.
const (
	smallBuffer = 4 << 10
	largeBuffer = 4 + maxPacket
)

// A packetReader cuts a stream into packets, in place: what next returns lies
// in the reader's own buffer. It is not safe for concurrent use.
type packetReader struct {
	r io.Reader

	// idle, if set, is called before every Read, which may block: the place
	// to send what has been held back.
	idle func()

	buf        []byte
	start, end int // buf[start:end] has been read and not been returned
}

// next returns the next packet, valid until the next call. It refuses a length
// above maxPacket before it makes room for it. The error is io.EOF between two
// packets and io.ErrUnexpectedEOF within one.
func (r *packetReader) next() (packet, error) {
	frame, err := r.nextFrame()
	if err != nil {
		return nil, err
	}
	return packet(frame[4:]), nil
}

// nextFrame is next with the length field before the packet.
func (r *packetReader) nextFrame() ([]byte, error) {
	if err := r.fill(4); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(r.buf[r.start:])
	if n == 0 {
		return nil, fmt.Errorf("%w: empty", errBadPacket)
	}
	if n > maxPacket {
		return nil, errPacketTooLong
	}
	if err := r.fill(4 + int(n)); err != nil {
		return nil, err
	}
	frame := r.buf[r.start : r.start+4+int(n)]
	r.start += len(frame)
	return frame, nil
}

// fill reads until n bytes are there. Of a packet that is mostly missing it
// reads exactly the rest, so that nothing of the next one has to be moved;
// small ones are read as many at a time as the buffer holds.
func (r *packetReader) fill(n int) error {
	if r.end-r.start >= n {
		return nil
	}
	r.makeRoom(n)
	for empty := 0; r.end-r.start < n; {
		if r.idle != nil {
			r.idle()
		}
		limit := len(r.buf)
		if missing := n - (r.end - r.start); missing > 32<<10 {
			limit = r.end + missing
		}
		got, err := r.r.Read(r.buf[r.end:limit])
		r.end += got
		switch {
		case r.end-r.start >= n:
			return nil
		case errors.Is(err, io.EOF):
			if r.end > r.start {
				return io.ErrUnexpectedEOF
			}
			return io.EOF
		case err != nil:
			return err
		case got > 0:
			empty = 0
		default:
			if empty++; empty == 100 {
				return io.ErrNoProgress
			}
		}
	}
	return nil
}

// makeRoom moves what is not returned yet to the front of a buffer that holds
// n bytes.
func (r *packetReader) makeRoom(n int) {
	buf := r.buf
	switch {
	case buf == nil && n <= smallBuffer:
		buf = make([]byte, smallBuffer)
	case n > len(buf):
		buf = make([]byte, largeBuffer)
	case r.start+n <= len(buf) && r.end < len(buf) && r.start > 0 && r.end > r.start:
		return // it fits where it is
	}
	r.end = copy(buf, r.buf[r.start:r.end])
	r.start = 0
	r.buf = buf
}
