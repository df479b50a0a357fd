package transport

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"transferd/protocol"
)

// newSigner makes a key that nobody else has.
func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// A fakeServer is an SSH server that knows no more of SFTP than its first
// packet. Its fields are set before the first connection.
type fakeServer struct {
	config   ssh.ServerConfig
	most     int                            // connections that it takes; 0: any number
	noSFTP   bool                           // it has no such subsystem
	anything bool                           // it takes any subsystem for SFTP
	native   *nativePeer                    // of its subsystem transfer; nil: it has none
	commands map[string]func(io.ReadWriter) // that it runs
	channel  int                            // channels a connection; 0: any number

	addr     *net.TCPAddr
	listener net.Listener
	group    sync.WaitGroup

	mu    sync.Mutex
	taken int
	asked []string // the requests of channels
	conns []net.Conn
}

// start listens until the test ends.
func (s *fakeServer) start(t *testing.T) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.config.AddHostKey(newSigner(t))
	s.listener, s.addr = l, l.Addr().(*net.TCPAddr)
	s.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.taken++
			refuse := s.most > 0 && s.taken > s.most
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			if refuse {
				_ = conn.Close()
				continue
			}
			s.group.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.cut()
		s.group.Wait()
	})
}

// cut ends every connection.
func (s *fakeServer) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

// count returns how many connections there have been.
func (s *fakeServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken
}

func (s *fakeServer) target() string {
	return "ssh://lab@127.0.0.1:" + strconv.Itoa(s.addr.Port) + "/"
}

func (s *fakeServer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	c, chans, reqs, err := ssh.NewServerConn(conn, &s.config)
	if err != nil {
		return
	}
	s.group.Go(func() { ssh.DiscardRequests(reqs) })
	opened := 0
	for ch := range chans {
		if s.channel > 0 && opened >= s.channel {
			_ = ch.Reject(ssh.Prohibited, "open failed")
			continue
		}
		opened++
		channel, requests, err := ch.Accept()
		if err != nil {
			break
		}
		s.group.Go(func() {
			for r := range requests {
				serve := s.started(r, c)
				_ = r.Reply(serve != nil, nil)
				if serve != nil {
					s.group.Go(func() {
						serve(channel)
						_ = channel.Close()
					})
				}
			}
			_ = channel.Close()
		})
	}
	_ = c.Close()
}

// started returns what a request starts on its channel, nil if it is refused.
func (s *fakeServer) started(r *ssh.Request, c *ssh.ServerConn) func(io.ReadWriter) {
	what := ""
	if len(r.Payload) >= 4 {
		what = string(r.Payload[4:])
	}
	s.mu.Lock()
	s.asked = append(s.asked, r.Type+" "+what)
	s.mu.Unlock()
	switch {
	case r.Type == "exec":
		return s.commands[what]
	case r.Type != "subsystem":
		return nil
	case what == protocol.Subsystem && s.native != nil:
		return func(rw io.ReadWriter) {
			s.native.serve(rw, protocol.BindingSSH, func(string) []byte { return c.SessionID() })
		}
	case !s.noSFTP && (what == "sftp" || s.anything):
		return answerInit
	}
	return nil
}

// answerInit answers SSH_FXP_INIT by version 3, REALPATH by /home and all else
// by a failure.
func answerInit(rw io.ReadWriter) {
	var head [9]byte
	for {
		if _, err := io.ReadFull(rw, head[:5]); err != nil {
			return
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > 1<<20 { // it waits for the rest of what is no packet
			_, _ = io.Copy(io.Discard, rw)
			return
		}
		rest := make([]byte, size-1)
		if _, err := io.ReadFull(rw, rest); err != nil {
			return
		}
		var answer []byte
		switch head[4] {
		case 1: // INIT
			answer = []byte{2, 0, 0, 0, 3}
		case 16: // REALPATH
			answer = append([]byte{104}, rest[:4]...)
			answer = append(answer, ssh.Marshal(struct {
				Count      uint32
				Name, Long string
				Flags      uint32
			}{1, "/home", "/home", 0})...)
		default:
			answer = append([]byte{101}, rest[:4]...)
			answer = append(answer, ssh.Marshal(struct {
				Code      uint32
				Text, Tag string
			}{8, "unsupported", ""})...)
		}
		packet := binary.BigEndian.AppendUint32(nil, uint32(len(answer)))
		if _, err := rw.Write(append(packet, answer...)); err != nil {
			return
		}
	}
}

// newPool returns a Pool on a home of its own, which is closed when the test
// ends.
func newPool(t *testing.T, o Options) *Pool {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("SSH_AUTH_SOCK", "")
	if o.SSHConfig == "" {
		o.SSHConfig = "none"
	}
	p := New(o)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	})
	return p
}

// connect connects p to a target.
func connect(t *testing.T, p *Pool, target string) (*Remote, error) {
	t.Helper()
	parsed, err := ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	return p.Connect(t.Context(), parsed)
}
