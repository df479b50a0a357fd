package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"transferd/auth"
	"transferd/protocol"
)

// A nativePeer is a server of our protocol with nothing but handshakes, pings,
// and an empty directory at every path. Its fields are set before it is used.
type nativePeer struct {
	host    ssh.Signer      // nil: it proves nothing, as over SSH
	keys    []ssh.PublicKey // that may log in
	refuse  protocol.Code   // of every right proof; 0: none
	goodbye protocol.Code   // instead of SERVER_HELLO; 0: none
	forge   bool            // its signature is over something else
	welcome protocol.Welcome
	cert    tls.Certificate

	mu       sync.Mutex
	sessions int
	joins    int
	users    []string
}

// newNativePeer returns a peer with a host key and a certificate of its own.
func newNativePeer(t *testing.T, keys ...ssh.PublicKey) *nativePeer {
	t.Helper()
	p := &nativePeer{host: newSigner(t), keys: keys}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	p.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	p.welcome = protocol.Welcome{
		Session: [16]byte{1}, Secret: [32]byte{2}, TLSKey: sha256.Sum256(leaf.RawSubjectPublicKeyInfo),
		User: "lab", Home: "home/lab", Streams: 1, Operations: protocol.MinOperations, Handles: protocol.MinHandles,
		Window: protocol.MinWindow,
	}
	return p
}

// counts returns how many sessions and joins there have been.
func (p *nativePeer) counts() (sessions, joins int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions, p.joins
}

// A nativeListener serves a nativePeer over TLS.
type nativeListener struct {
	listener net.Listener
	port     int
	group    sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

// listen serves p over TLS until the test ends.
func (p *nativePeer) listen(t *testing.T) *nativeListener {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{p.cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol.ALPN}}
	return listen(t, "127.0.0.1:0", func(conn net.Conn) {
		c := tls.Server(conn, config)
		if c.Handshake() != nil {
			return
		}
		state := c.ConnectionState()
		p.serve(c, protocol.BindingTLS, func(label string) []byte {
			exported, _ := state.ExportKeyingMaterial(label, nil, protocol.ExporterSize) // TLS 1.3 always can
			return exported
		})
		_ = c.Close()
	})
}

// listen calls serve with every connection to addr, until the test ends.
func listen(t *testing.T, addr string, serve func(net.Conn)) *nativeListener {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	n := &nativeListener{listener: l, port: l.Addr().(*net.TCPAddr).Port}
	n.group.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n.mu.Lock()
			n.conns = append(n.conns, conn)
			n.mu.Unlock()
			n.group.Go(func() {
				serve(conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		n.close()
		n.group.Wait()
	})
	return n
}

// close ends the listener and every connection.
func (n *nativeListener) close() {
	_ = n.listener.Close()
	n.cut()
}

func (n *nativeListener) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		_ = conn.Close()
	}
	n.conns = nil
}

func (n *nativeListener) target() string { return "tcp://lab@127.0.0.1:" + strconv.Itoa(n.port) + "/" }

// serve serves one stream. export gives keying material over TLS, the session
// identifier over SSH whatever the label.
func (p *nativePeer) serve(rw io.ReadWriter, binding protocol.Binding, export func(label string) []byte) {
	s := &peerStream{rw: rw, frames: protocol.NewReader(rw, protocol.MaxFrame)}
	_, _ = io.WriteString(rw, protocol.Preface)
	if protocol.ReadPreface(rw, 0) != nil {
		return
	}
	switch m := s.next().(type) {
	case *protocol.Hello:
		if !p.greet(s, m, export) {
			return
		}
	case *protocol.Join:
		if !p.admit(s, m, binding, export) {
			return
		}
	default:
		return
	}
	for {
		switch m := s.next().(type) {
		case nil, *protocol.Goodbye:
			return
		case *protocol.Ping:
			s.send(&protocol.Pong{Nonce: m.Nonce})
		case *protocol.Stat:
			s.send(&protocol.Found{Entry: protocol.Entry{Kind: protocol.KindDir, Perm: 0o755}})
		case *protocol.OpenDir, *protocol.Close:
			s.send(&protocol.OK{})
		default:
			s.send(&protocol.Fail{Code: protocol.CodeUnsupported})
		}
	}
}

func (p *nativePeer) greet(s *peerStream, hello *protocol.Hello, export func(string) []byte) bool {
	t := protocol.Transcript{Hello: s.body}
	if p.goodbye != 0 {
		s.send(&protocol.Goodbye{Code: p.goodbye, Message: "so it is"})
		return false
	}
	answer := s.send(&protocol.ServerHello{Version: protocol.Version, MaxData: protocol.MaxData, Software: "peer"})
	t.ServerHello = answer[protocol.HeaderSize:]
	if p.host != nil && !p.login(s, t, hello, export) {
		return false
	}
	p.mu.Lock()
	p.sessions++
	p.mu.Unlock()
	s.send(&p.welcome)
	return true
}

// login proves the host and lets a user prove who they are.
func (p *nativePeer) login(s *peerStream, t protocol.Transcript, hello *protocol.Hello, export func(string) []byte) bool {
	if len(hello.Algorithms) == 0 {
		return false
	}
	t.HostKey = p.host.PublicKey().Marshal()
	t.Exporter = export(protocol.LabelHost)
	message := t.HostMessage()
	if p.forge {
		message = message[1:]
	}
	signature, err := auth.SignMessage(p.host, protocol.NamespaceHost, message)
	if err != nil {
		return false
	}
	s.send(&protocol.HostProof{Key: t.HostKey, Signature: signature})
	t.Exporter = export(protocol.LabelUser)
	for {
		switch m := s.next().(type) {
		case *protocol.Offer:
			var would uint32
			for i, key := range m.Keys {
				for _, known := range p.keys {
					if string(known.Marshal()) == string(key) {
						would |= 1 << i
					}
				}
			}
			s.send(&protocol.Offered{Keys: would})
		case *protocol.Prove:
			key, err := ssh.ParsePublicKey(m.Key)
			if err == nil {
				_, err = auth.VerifyMessage(key, protocol.NamespaceUser, t.UserMessage(m.User, m.Key), m.Signature)
			}
			switch {
			case err != nil:
				s.send(&protocol.Fail{Code: protocol.CodeAuth})
			case p.refuse != 0:
				s.send(&protocol.Fail{Code: p.refuse})
			default:
				p.mu.Lock()
				p.users = append(p.users, m.User)
				p.mu.Unlock()
				return true
			}
		default:
			return false
		}
	}
}

func (p *nativePeer) admit(s *peerStream, m *protocol.Join, binding protocol.Binding, export func(string) []byte) bool {
	mac := func(role protocol.Role) (sum [32]byte) {
		h := hmac.New(sha256.New, p.welcome.Secret[:])
		h.Write(protocol.JoinMessage(role, binding, export(protocol.LabelJoin), m.Session, m.Stream))
		h.Sum(sum[:0])
		return sum
	}
	if mac(protocol.RoleClient) != m.MAC {
		s.send(&protocol.Goodbye{Code: protocol.CodeJoin})
		return false
	}
	p.mu.Lock()
	p.joins++
	p.mu.Unlock()
	s.send(&protocol.Joined{MAC: mac(protocol.RoleServer)})
	return true
}

// A peerStream is the peer's end of a stream.
type peerStream struct {
	rw     io.ReadWriter
	frames *protocol.Reader
	body   []byte // of the last message
	id     uint64 // its operation
}

// next returns the next message, nil when there is none.
func (s *peerStream) next() protocol.Message {
	h, err := s.frames.Next()
	if err != nil {
		return nil
	}
	body, err := s.frames.Body(nil)
	if err != nil {
		return nil
	}
	m, err := protocol.Decode(h.Type, body)
	if err != nil {
		return nil
	}
	s.body, s.id = body, h.ID
	return m
}

// send answers the last message, and returns the frame.
func (s *peerStream) send(m protocol.Message) []byte {
	frame, err := protocol.Append(nil, s.id, m)
	if err != nil {
		panic(err) // the test sends nonsense
	}
	_, _ = s.rw.Write(frame) // the next read finds out
	return frame
}
