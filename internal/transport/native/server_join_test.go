package native

import (
	"crypto/hmac"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"transferd/protocol"
)

// ticket is the JOIN for stream number of c's session.
func (c *raw) ticket(number uint32, b protocol.Binding, bound []byte) *protocol.Join {
	m := &protocol.Join{Session: c.welcome.Session, Stream: number}
	m.MAC = joinMAC(&c.welcome.Secret, protocol.RoleClient, b, bound, m)
	return m
}

// join sends m on a new stream.
func (r *rig) join(m *protocol.Join, change func(st *Stream)) *raw {
	r.t.Helper()
	c := r.dial(change)
	c.preface()
	c.send(0, m)
	return c
}

var sshID = []byte("session id")

func TestJoinedStreamsAreEqual(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	m := c.ticket(1, protocol.BindingSSH, sshID)
	j := r.join(m, nil)
	joined := want[*protocol.Joined](j, 0)
	wanted := joinMAC(&c.welcome.Secret, protocol.RoleServer, protocol.BindingSSH, sshID, m)
	if !hmac.Equal(joined.MAC[:], wanted[:]) {
		t.Errorf("JOINED %x, want %x", joined.MAC, wanted)
	}
	big := &protocol.Write{Handle: 1, Data: make([]byte, protocol.MaxData)} // its first frame may be as long as any
	j.fails(1, big, protocol.CodeClosed)
	ask[*protocol.Found](c, 2, &protocol.Open{Place: at("f"), Handle: 1, Flags: readWrite, Perm: 0o600})
	big.Data = []byte("abc")
	ask[*protocol.OK](j, 3, big)
	if data, _, _ := c.readAll(4, &protocol.Read{Handle: 1, Length: 10}); string(data) != "abc" {
		t.Errorf("READ %q", data)
	}
	j.bye()
	ask[*protocol.Found](c, 5, &protocol.StatFile{Handle: 1}) // goes on without it
	j = r.join(c.ticket(2, protocol.BindingSSH, sshID), nil)
	want[*protocol.Joined](j, 0)
	c.bye()
	j.wantEnd(protocol.CodeDone) // the session has ended
	if err := <-j.ended; err != nil {
		t.Errorf("Serve of the joined stream = %v", err)
	}
	r.join(c.ticket(3, protocol.BindingSSH, sshID), nil).wantEnd(protocol.CodeJoin)
}

func TestRefusedJoinsLookAlike(t *testing.T) {
	r := newRig(t, ServerConfig{})
	admit := error(nil)
	r.guest = func(g *Guest) { g.Admit = func(netip.Addr, time.Time) error { return admit } }
	c := r.login()
	other := r.login()
	want[*protocol.Joined](r.join(c.ticket(70, protocol.BindingSSH, sshID), nil), 0)
	tls := func(st *Stream) {
		st.Binding, st.Bound = protocol.BindingTLS, nil
		st.Exporter = func(label string) ([]byte, error) { return []byte("exporter for " + label), nil }
	}
	wrong := c.ticket(1, protocol.BindingSSH, sshID)
	wrong.MAC[31] ^= 1
	foreign := c.ticket(71, protocol.BindingSSH, sshID)
	foreign.Session = other.welcome.Session
	server := c.ticket(72, protocol.BindingSSH, sshID)
	server.MAC = joinMAC(&c.welcome.Secret, protocol.RoleServer, protocol.BindingSSH, sshID, server)
	for _, test := range []struct {
		name   string
		m      *protocol.Join
		change func(st *Stream)
	}{
		{"wrong MAC", wrong, nil},
		{"another session's secret", foreign, nil},
		{"the server's own MAC", server, nil},
		{"a number that was used", c.ticket(70, protocol.BindingSSH, sshID), nil},
		{"the control stream's number", c.ticket(0, protocol.BindingSSH, sshID), nil},
		{"a number too far back", c.ticket(5, protocol.BindingSSH, sshID), nil},
		{"another SSH connection", c.ticket(80, protocol.BindingSSH, []byte("other id")), func(st *Stream) { st.Bound = []byte("other id") }},
		{"stdio for a session over SSH", c.ticket(81, protocol.BindingStdio, c.nonces), func(st *Stream) { st.Binding, st.Bound = protocol.BindingStdio, nil }},
		{"no binding", c.ticket(82, protocol.BindingNone, nil), func(st *Stream) { st.Binding, st.Bound = protocol.BindingNone, nil }},
		{"a MAC for SSH over TLS", c.ticket(83, protocol.BindingSSH, sshID), tls},
		{"an exporter of another connection", c.ticket(84, protocol.BindingTLS, []byte("exporter for another")), tls},
		{"an exporter of another label", c.ticket(85, protocol.BindingTLS, []byte("exporter for "+protocol.LabelUser)), tls},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := r.join(test.m, test.change)
			_, m, err := j.next()
			if err != nil {
				t.Fatal(err)
			}
			if bye, ok := m.(*protocol.Goodbye); !ok || *bye != (protocol.Goodbye{Code: protocol.CodeJoin, Message: "this ticket does not do"}) {
				t.Errorf("answer %+v", m)
			}
			_ = j.conn.Close()
			if err := <-j.ended; err == nil {
				t.Error("Serve = nil")
			}
		})
	}
	admit = errors.New("not from here")
	r.join(c.ticket(90, protocol.BindingSSH, sshID), nil).wantEnd(protocol.CodeJoin)
	admit = nil
	r.join(c.ticket(90, protocol.BindingSSH, sshID), nil).wantEnd(protocol.CodeJoin) // and now it is spent
	want[*protocol.Joined](r.join(c.ticket(91, protocol.BindingTLS, []byte("exporter for "+protocol.LabelJoin)), tls), 0)
	want[*protocol.Joined](r.join(c.ticket(80, protocol.BindingSSH, sshID), nil), 0) // wrong MACs do not spend numbers
	ask[*protocol.Found](c, 1, &protocol.Stat{Place: at(".")})
}

func TestStdioJoinsByItsNonces(t *testing.T) {
	r := newRig(t, ServerConfig{})
	stdio := func(st *Stream) { st.Binding, st.Bound, st.Transport = protocol.BindingStdio, nil, "stdio" }
	var named [16]byte
	r.o.Named = func(session [16]byte) { named = session }
	c := r.loginWith(stdio, &protocol.Hello{})
	if c.welcome.Binding != protocol.BindingStdio || c.welcome.Session != named {
		t.Errorf("WELCOME %+v, named %x", c.welcome, named)
	}
	want[*protocol.Joined](r.join(c.ticket(1, protocol.BindingStdio, c.nonces), stdio), 0)
	r.join(c.ticket(2, protocol.BindingStdio, c.nonces[:32]), stdio).wantEnd(protocol.CodeJoin)
	c.bye()
}

func TestASessionHasSoManyStreams(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	for n := uint32(1); n < c.welcome.Streams; n++ {
		want[*protocol.Joined](r.join(c.ticket(n, protocol.BindingSSH, sshID), nil), 0)
	}
	r.join(c.ticket(50, protocol.BindingSSH, sshID), nil).wantEnd(protocol.CodeLimit)
	c.bye()
}

func TestNothingIsSentOnAJoinedStreamBeforeItsClientSpeaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		opened := 0
		c := r.login()
		defer c.pings()()
		j := r.join(c.ticket(1, protocol.BindingSSH, sshID), func(st *Stream) { st.Opened = func() { opened++ } })
		want[*protocol.Joined](j, 0)
		<-time.After(time.Minute)
		if n := j.conn.Sent(); opened != 0 || n == 0 {
			t.Errorf("the stream is open %d times", opened)
		}
		j.send(0, &protocol.Ping{Nonce: 7})
		h, err := j.frames.Next()
		if err != nil || h.Type != protocol.TypePong {
			t.Errorf("first behind JOINED: %v, %v, want PONG", h.Type, err)
		}
		if opened != 1 {
			t.Errorf("opened %d times", opened)
		}
		_ = j.conn.Close()
		c.bye()
		r.group.Wait()
	})
}

func TestALostJoinedStreamSuspendsItsUploads(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	j := r.join(c.ticket(1, protocol.BindingSSH, sshID), nil)
	want[*protocol.Joined](j, 0)
	ask[*protocol.Begun](j, 1, &protocol.Begin{Place: at("f"), Size: 9, Chunk: 1 << 20, Origin: "o"})
	j.send(2, &protocol.List{Place: at(".")})
	j.conn.Cut()
	if err := <-j.ended; err == nil {
		t.Error("Serve = nil for a lost stream")
	}
	// The key is free: nobody is taken over, and nobody is told.
	ask[*protocol.Begun](c, 3, &protocol.Begin{Place: at("f"), Size: 9, Chunk: 1 << 20, Origin: "o", Flags: protocol.UploadResume})
	ask[*protocol.OK](c, 3, &protocol.Abort{})
	c.bye()
}

func TestJoinNumbers(t *testing.T) {
	for _, test := range []struct {
		name  string
		spent []uint32
		n     uint32
		want  bool
	}{
		{"the control stream", nil, 0, false},
		{"the first", nil, 1, true},
		{"twice", []uint32{1}, 1, false},
		{"out of order", []uint32{2}, 1, true},
		{"out of order, twice", []uint32{2, 1}, 1, false},
		{"the oldest of the window", []uint32{100}, 36, true},
		{"behind the window", []uint32{100}, 35, false},
		{"a number below a jump", []uint32{30, 94}, 30, false},
		{"far above", []uint32{1}, 1<<32 - 1, true},
		{"behind a far jump", []uint32{1, 1<<32 - 1}, 1, false},
		{"below a far jump", []uint32{1, 1<<32 - 1}, 1<<32 - 2, true},
	} {
		var j joinNumbers
		for _, n := range test.spent {
			if !j.spend(n) {
				t.Errorf("%s: %d could not be spent", test.name, n)
			}
		}
		if got := j.spend(test.n); got != test.want {
			t.Errorf("%s: spend(%d) = %v, want %v", test.name, test.n, got, test.want)
		}
	}
}
