//go:build unix

package interop

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"testing"

	"golang.org/x/crypto/ssh"

	"transferd/internal/testpeer"
)

// Packet types and flags of draft-ietf-secsh-filexfer-02.
const (
	fxInit     = 1
	fxOpen     = 3
	fxClose    = 4
	fxRead     = 5
	fxWrite    = 6
	fxLstat    = 7
	fxFstat    = 8
	fxSetstat  = 9
	fxFsetstat = 10
	fxOpendir  = 11
	fxReaddir  = 12
	fxRemove   = 13
	fxMkdir    = 14
	fxRmdir    = 15
	fxRealpath = 16
	fxStat     = 17
	fxRename   = 18
	fxReadlink = 19
	fxSymlink  = 20
	fxExtended = 200

	fxStatus        = 101
	fxHandle        = 102
	fxData          = 103
	fxName          = 104
	fxAttrs         = 105
	fxExtendedReply = 201

	fxfRead   = 0x01
	fxfWrite  = 0x02
	fxfAppend = 0x04
	fxfCreate = 0x08
	fxfTrunc  = 0x10
	fxfExcl   = 0x20

	statusDenied = 3
)

// A rawSFTP is an SFTP client that checks nothing: it sends what it is told. It
// has one request under way at a time.
type rawSFTP struct {
	conn *ssh.Client
	in   io.WriteCloser
	out  io.Reader
	id   uint32
}

// A reply is a packet behind its id.
type reply struct {
	kind byte
	body []byte
}

// dialSSH logs in without looking at the host key.
func dialSSH(t *testing.T, l testpeer.Login) *ssh.Client {
	t.Helper()
	pem, err := os.ReadFile(l.Identity)
	check(t, err)
	key, err := ssh.ParsePrivateKey(pem)
	check(t, err)
	conn, err := ssh.Dial("tcp", l.Addr(), &ssh.ClientConfig{
		User: l.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// dialRaw logs in and starts a session.
func dialRaw(t *testing.T, l testpeer.Login) *rawSFTP {
	t.Helper()
	return rawOn(t, dialSSH(t, l))
}

// rawOn starts a session on a connection.
func rawOn(t *testing.T, conn *ssh.Client) *rawSFTP {
	t.Helper()
	s, err := conn.NewSession()
	check(t, err)
	in, err := s.StdinPipe()
	check(t, err)
	out, err := s.StdoutPipe()
	check(t, err)
	check(t, s.RequestSubsystem("sftp"))
	r := &rawSFTP{conn: conn, in: in, out: out}
	_, err = in.Write([]byte{0, 0, 0, 5, fxInit, 0, 0, 0, 3})
	check(t, err)
	if _, err := r.next(); err != nil {
		t.Fatalf("INIT: %v", err)
	}
	return r
}

// request encodes a request: uint32, uint64, string with its length, []byte as
// it is.
func request(kind byte, id uint32, fields ...any) []byte {
	p := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 0, kind}, id)
	for _, f := range fields {
		switch f := f.(type) {
		case uint32:
			p = binary.BigEndian.AppendUint32(p, f)
		case uint64:
			p = binary.BigEndian.AppendUint64(p, f)
		case string:
			p = binary.BigEndian.AppendUint32(p, uint32(len(f)))
			p = append(p, f...)
		case []byte:
			p = append(p, f...)
		default:
			panic(fmt.Sprintf("field %T", f))
		}
	}
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

// call sends a request and returns its reply.
func (r *rawSFTP) call(kind byte, fields ...any) (reply, error) {
	r.id++
	if _, err := r.in.Write(request(kind, r.id, fields...)); err != nil {
		return reply{}, err
	}
	got, err := r.next()
	if err != nil {
		return reply{}, err
	}
	if id := got.uint32(0); id != r.id {
		return reply{}, fmt.Errorf("reply %d to request %d", id, r.id)
	}
	return reply{got.kind, got.body[4:]}, nil
}

// must is call on a session that has no reason to end.
func (r *rawSFTP) must(t *testing.T, kind byte, fields ...any) reply {
	t.Helper()
	got, err := r.call(kind, fields...)
	if err != nil {
		t.Fatalf("request %d %q: %v", kind, fields, err)
	}
	return got
}

// next reads a packet.
func (r *rawSFTP) next() (reply, error) {
	var head [5]byte
	if _, err := io.ReadFull(r.out, head[:]); err != nil {
		return reply{}, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 5 || n > 1<<20 {
		return reply{}, fmt.Errorf("packet of %d bytes", n)
	}
	body := make([]byte, n-1)
	_, err := io.ReadFull(r.out, body)
	return reply{head[4], body}, err
}

func (r reply) uint32(at int) uint32 { return binary.BigEndian.Uint32(r.body[at:]) }

// text is the string field at an offset.
func (r reply) text(at int) string {
	return string(r.body[at+4 : at+4+int(r.uint32(at))])
}

// status is the code of a STATUS, 0 for any other answer: it went well.
func (r reply) status() uint32 {
	if r.kind != fxStatus {
		return 0
	}
	return r.uint32(0)
}

// open returns a handle, "" if that was refused.
func (r *rawSFTP) open(t *testing.T, path string, flags uint32) string {
	t.Helper()
	got := r.must(t, fxOpen, path, flags, noAttrs)
	if got.kind != fxHandle {
		return ""
	}
	return got.text(0)
}

// Encoded attributes.
var (
	noAttrs   = []byte{0, 0, 0, 0}
	sizeZero  = []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	ownerOne  = []byte{0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1}
	mode7777  = []byte{0, 0, 0, 4, 0, 0, 0x0f, 0xff}
	timesZero = []byte{0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}
)
