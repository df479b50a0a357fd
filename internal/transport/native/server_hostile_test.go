package native

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// header is that of a frame as a peer may make it.
func header(length uint32, typ byte, id uint64) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	return binary.BigEndian.AppendUint64(append(b, typ), id)
}

func (c *raw) sendBytes(b ...byte) {
	c.t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		c.t.Fatal(err)
	}
}

func TestWhatAClientMustNotSend(t *testing.T) {
	stat := &protocol.Stat{Place: at(".")}
	for _, test := range []struct {
		name string
		send func(c *raw)
		want protocol.Code
	}{
		{"a second HELLO", func(c *raw) { c.send(0, &protocol.Hello{MinVersion: 1, MaxVersion: 1, MaxData: protocol.MaxData}) }, protocol.CodeBadState},
		{"a JOIN", func(c *raw) { c.send(0, &protocol.Join{}) }, protocol.CodeBadState},
		{"a PROVE with an id", func(c *raw) { c.send(9, &protocol.Prove{User: "u"}) }, protocol.CodeBadState},
		{"what a server sends", func(c *raw) { c.send(1, &protocol.OK{}) }, protocol.CodeBadState},
		{"a frame above the limit", func(c *raw) { c.sendBytes(header(protocol.MaxFrame+1, byte(protocol.TypeWrite), 1)...) }, protocol.CodeTooLarge},
		{"an endless frame", func(c *raw) { c.sendBytes(header(0xffffffff, 0xff, 1)...) }, protocol.CodeTooLarge},
		{"a body that is none", func(c *raw) { c.sendBytes(append(header(1, byte(protocol.TypeClose), 1), 0)...) }, protocol.CodeBadMessage},
		{"a request without an id", func(c *raw) { c.send(0, stat) }, protocol.CodeBadState},
		{"an unknown request without an id", func(c *raw) { c.sendBytes(header(0, 0x7f, 0)...) }, protocol.CodeUnsupported},
		{"an id that is open", func(c *raw) {
			c.send(1, &protocol.List{Place: at(".")})
			c.send(1, stat)
		}, protocol.CodeBadState},
		{"DATA for a LIST", func(c *raw) {
			c.send(1, &protocol.List{Place: at(".")})
			c.send(1, &protocol.Data{Length: 1, Payload: []byte("x")})
		}, protocol.CodeBadState},
		{"MORE for an upload", func(c *raw) {
			c.send(1, &protocol.Begin{Place: at("f"), Size: 9, Chunk: 1 << 20, Origin: "o"})
			c.send(1, &protocol.More{Frames: 1})
		}, protocol.CodeBadState},
		{"COMMIT for a LIST", func(c *raw) {
			c.send(1, &protocol.List{Place: at(".")})
			c.send(1, &protocol.Commit{})
		}, protocol.CodeBadState},
		{"an unknown request with an id that is open", func(c *raw) {
			c.send(1, &protocol.List{Place: at(".")})
			c.sendBytes(header(0, 0x7f, 1)...)
		}, protocol.CodeBadState},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, ServerConfig{})
			c := r.login()
			test.send(c)
			c.wantEnd(test.want)
			if err := <-c.ended; err == nil {
				t.Error("Serve = nil")
			}
			if log := r.log.String(); strings.Contains(log, "level=ERROR") {
				t.Error(log)
			}
		})
	}
}

func TestWhatAServerEndures(t *testing.T) {
	r := newRig(t, ServerConfig{})
	c := r.login()
	c.sendBytes(append(header(3, 0xff, 7), "abc"...)...) // may be skipped
	c.sendBytes(append(header(3, 0x7f, 8), "abc"...)...) // may not
	if f := want[*protocol.Fail](c, 8); f.Code != protocol.CodeUnsupported {
		t.Errorf("FAIL %v", f.Code)
	}
	for i, path := range []string{"", "/", "a/", "/a", "..", "a/../b", "a//b", "./a", "a\x00b"} {
		stat := header(uint32(4+2+len(path)+1), byte(protocol.TypeStat), uint64(100+i))
		stat = binary.BigEndian.AppendUint16(append(stat, 0, 0, 0, 0), uint16(len(path)))
		c.sendBytes(append(append(stat, path...), 0)...)
		if f := want[*protocol.Fail](c, uint64(100+i)); f.Code != protocol.CodeBadPath {
			t.Errorf("path %q: FAIL %v", path, f.Code)
		}
	}
	for _, m := range []protocol.Message{ // they have crossed a last answer
		&protocol.Data{Length: 3, Payload: []byte("abc")}, &protocol.More{}, &protocol.Cancel{}, &protocol.Recheck{},
		&protocol.Commit{}, &protocol.Suspend{}, &protocol.Abort{},
	} {
		c.send(55, m)
	}
	put := putOf("f", strings.Repeat("x", protocol.MaxInline))
	put.Size++
	frame, err := protocol.Append(nil, 56, putOf("f", "abc"))
	if err != nil {
		t.Fatal(err)
	}
	frame = append(frame, 'd') // longer than its size
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-protocol.HeaderSize))
	c.sendBytes(frame...)
	if _, m, err := c.next(); err != nil {
		t.Fatal(err)
	} else if bye, ok := m.(*protocol.Goodbye); ok && bye.Code == protocol.CodeBadMessage {
		return // the decoder finds it already
	}
	ask[*protocol.Found](c, 60, &protocol.Stat{Place: at(".")})
	c.bye()
}

func TestTheWindowIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		hold := make(chan struct{})
		r.gate(func(op, _ string) {
			if op == "mkdir" {
				<-hold
			}
		})
		c := r.login()
		c.send(1, &protocol.Mkdir{Place: at("d"), Perm: 0o700})
		synctest.Wait()
		r.server.mu.Lock()
		for _, one := range r.server.sessions {
			one.window.mu.Lock()
			one.window.limit = 10
			one.window.mu.Unlock()
		}
		r.server.mu.Unlock()
		c.send(2, putOf("a", "12345"))
		c.send(3, putOf("b", "12345"))
		c.fails(4, putOf("c", "1"), protocol.CodeWindow)
		c.fails(5, &protocol.Write{Handle: 1, Data: []byte("1")}, protocol.CodeWindow)
		close(hold)
		for range 3 {
			if _, m, err := c.next(); err != nil || protocol.TypeOf(m) == protocol.TypeFail {
				t.Fatalf("next = %+v, %v", m, err)
			}
		}
		ask[*protocol.Committed](c, 6, putOf("c", "1"))
		c.bye()
		r.group.Wait()
	})
}

func TestAHandshakeEndsWithItsContext(t *testing.T) {
	for name, said := range map[string]string{
		"nothing said": "", "half a preface": protocol.Preface[:5], "a preface": protocol.Preface,
		"half a frame": protocol.Preface + string(header(100, byte(protocol.TypeHello), 0)) + "abc",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, ServerConfig{})
				c := r.dial(nil)
				c.sendBytes([]byte(said)...)
				synctest.Wait()
				if n := len(r.server.greeting); n != 1 {
					t.Errorf("%d handshakes, want 1", n)
				}
				_ = c.conn.Close()
				if err := <-c.ended; err == nil {
					t.Error("Serve = nil")
				}
				if n := len(r.server.greeting); n != 0 {
					t.Errorf("%d handshakes are left", n)
				}
				r.group.Wait()
			})
		})
	}
}

func TestNotThePreface(t *testing.T) {
	for _, said := range []string{"SSH-2.0-OpenSSH_9\r\n", "GET / HTTP/1.1\r\n\r\n", "\x89transfer/2\r\n", "\x89transfer/1\n\n\n"} {
		r := newRig(t, ServerConfig{})
		c := r.dial(nil)
		c.sendBytes([]byte(said)...)
		if err := <-c.ended; err == nil {
			t.Errorf("%q: Serve = nil", said)
		}
		got, err := io.ReadAll(c.conn)
		if err != nil || !strings.HasPrefix(protocol.Preface, string(got)) { // that it had no time to send, perhaps
			t.Errorf("%q is answered by %q, %v; want the preface at most", said, got, err)
		}
	}
}

func TestHandshakeMessagesOutOfPlace(t *testing.T) {
	for _, test := range []struct {
		name string
		send func(c *raw)
		want protocol.Code
	}{
		{"a request", func(c *raw) { c.send(1, &protocol.Stat{Place: at(".")}) }, protocol.CodeBadState},
		{"HELLO with an id", func(c *raw) { c.send(1, &protocol.Hello{MinVersion: 1, MaxVersion: 1, MaxData: protocol.MaxData}) }, protocol.CodeBadState},
		{"DATA", func(c *raw) { c.send(0, &protocol.Data{}) }, protocol.CodeBadState},
		{"PING", func(c *raw) { c.send(0, &protocol.Ping{}) }, protocol.CodeBadState},
		{"OFFER", func(c *raw) { c.send(0, &protocol.Offer{User: "u"}) }, protocol.CodeBadState},
		{"an unknown message", func(c *raw) { c.sendBytes(header(0, 0x7f, 1)...) }, protocol.CodeUnsupported},
		{"a long frame", func(c *raw) { c.sendBytes(header(protocol.MaxHandshakeFrame+1, byte(protocol.TypeHello), 0)...) }, protocol.CodeTooLarge},
		{"an old version", func(c *raw) { c.send(0, &protocol.Hello{MaxData: protocol.MaxData}) }, protocol.CodeVersion},
		{"a new version", func(c *raw) { c.send(0, &protocol.Hello{MinVersion: 2, MaxVersion: 9, MaxData: protocol.MaxData}) }, protocol.CodeVersion},
		{"an unknown session", func(c *raw) { c.send(0, &protocol.Join{Stream: 1}) }, protocol.CodeJoin},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, ServerConfig{})
			c := r.dial(nil)
			c.preface()
			test.send(c)
			c.wantEnd(test.want)
			if err := <-c.ended; err == nil {
				t.Error("Serve = nil")
			}
		})
	}
}

func TestAGuestWhoCannotBeOpened(t *testing.T) {
	r := newRig(t, ServerConfig{})
	r.tree = nil
	c := r.dial(nil)
	c.sayHello(&protocol.Hello{})
	c.wantEnd(protocol.CodeFailure)

	r.tree = r.store
	r.o.Entered = func(string, bool) error {
		return &Refusal{Code: protocol.CodeLimit, Message: "too many", Err: errors.New("secret")}
	}
	over := false
	r.guest = func(g *Guest) { g.Done = func() { over = true } }
	c = r.dial(nil)
	c.sayHello(&protocol.Hello{})
	if _, m, err := c.next(); err != nil || m.(*protocol.Goodbye).Code != protocol.CodeLimit || m.(*protocol.Goodbye).Message != "too many" {
		t.Errorf("next = %+v, %v", m, err)
	}
	_ = c.conn.Close()
	if err := <-c.ended; err == nil {
		t.Error("Serve = nil")
	}
	if !over {
		t.Error("the guest is not told that it is over")
	}
}

// pings keeps the stream alive until what it returns is called.
func (c *raw) pings() (stop func()) {
	tick, done, over := time.NewTicker(protocol.PingAfter*time.Second), make(chan struct{}), make(chan struct{})
	frame, err := protocol.Append(nil, 0, &protocol.Ping{})
	if err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(over)
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_, _ = c.conn.Write(frame) // after the end it fails
			}
		}
	}()
	return func() {
		tick.Stop()
		close(done)
		<-over
	}
}

func TestAnIdleSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limit := 10 * time.Minute
		r := newRig(t, ServerConfig{IdleTimeout: func() time.Duration { return limit }})
		c := r.login()
		defer c.pings()()
		began := time.Now()
		c.send(1, &protocol.List{Place: at(".")}) // waits for MORE
		<-time.After(30 * time.Minute)
		c.send(1, &protocol.More{Frames: 1})
		want[*protocol.Listed](c, 1)
		c.wantEnd(protocol.CodeIdle)
		if took := time.Since(began); took < 40*time.Minute || took > 41*time.Minute {
			t.Errorf("idle after %v, want 40m", took)
		}
		if err := <-c.ended; err == nil {
			t.Error("Serve = nil")
		}
		r.group.Wait()
	})
}

func TestASilentClientIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		c := r.login()
		began := time.Now()
		if err := <-c.ended; !errors.Is(err, tree.ErrLost) {
			t.Errorf("Serve = %v", err)
		}
		if took := time.Since(began); took != protocol.DeadAfter*time.Second {
			t.Errorf("lost after %v", took)
		}
		r.group.Wait()
	})
}

func TestShutdownFinishesWhatIsBeingDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		hold := make(chan struct{})
		r.gate(func(op, _ string) {
			if op == "mkdir" {
				<-hold
			}
		})
		c := r.login()
		half := r.dial(nil)
		half.preface()
		c.send(1, &protocol.Mkdir{Place: at("d"), Perm: 0o700})
		c.send(2, &protocol.Mkdir{Place: at("e"), Perm: 0o700})
		c.send(3, &protocol.List{Place: at(".")})
		c.send(4, &protocol.Begin{Place: at("f"), Size: 1, Chunk: 1 << 20, Origin: "o"})
		synctest.Wait()
		over := make(chan error, 1)
		go func() { over <- r.server.Shutdown(t.Context()) }()
		synctest.Wait()
		half.wantEnd(protocol.CodeShutdown)
		late := r.dial(nil)
		late.preface()
		late.wantEnd(protocol.CodeShutdown)
		c.send(5, &protocol.Stat{Place: at(".")})
		synctest.Wait()
		close(hold)
		codes := map[uint64]protocol.Code{}
		for {
			id, m, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if bye, ok := m.(*protocol.Goodbye); ok {
				if bye.Code != protocol.CodeShutdown {
					t.Errorf("GOODBYE %v", bye.Code)
				}
				break
			}
			codes[id] = 0
			if f, ok := m.(*protocol.Fail); ok {
				codes[id] = f.Code
			}
		}
		_ = c.conn.Close()
		if got, ok := codes[1]; got != 0 || !ok {
			t.Errorf("MKDIR that was running: %v", got)
		}
		for _, id := range []uint64{2, 3, 5} {
			if codes[id] != protocol.CodeShutdown {
				t.Errorf("answer to %d: %v, want SHUTDOWN", id, codes[id])
			}
		}
		if err := <-over; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		r.group.Wait()
	})
}

func TestShutdownCutsOffWhatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, ServerConfig{})
		hold := make(chan struct{})
		r.gate(func(op, _ string) {
			if op == "mkdir" {
				<-hold
			}
		})
		c := r.login()
		c.send(1, &protocol.Mkdir{Place: at("d"), Perm: 0o700})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		began := time.Now()
		if err := r.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v", err)
		}
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		c.wantEnd(protocol.CodeShutdown)
		close(hold)
		if err := <-c.ended; !errors.Is(err, errShutdown) {
			t.Errorf("Serve = %v", err)
		}
		r.group.Wait()
	})
}

// FuzzSession gives a session whatever frames it is given: it must neither panic
// nor hang.
func FuzzSession(f *testing.F) {
	seed := func(messages ...protocol.Message) {
		var b []byte
		for i, m := range messages {
			var err error
			if b, err = protocol.Append(b, uint64(i/2+1), m); err != nil {
				f.Fatal(err)
			}
		}
		f.Add(b)
	}
	seed(&protocol.Mkdir{Place: at("d")}, &protocol.Stat{Place: at("d")})
	seed(&protocol.Open{Place: at("f"), Handle: 1, Flags: readWrite}, &protocol.Write{Handle: 1, Data: []byte("x")},
		&protocol.Read{Handle: 1, Length: 9}, &protocol.Close{Handle: 1}, &protocol.Hash{Handle: 1, Chunk: 1 << 20, Count: 1})
	seed(&protocol.Begin{Place: at("f"), Size: 1, Chunk: 1 << 20, Origin: "o"}, &protocol.Data{Length: 1, Payload: []byte("x")},
		&protocol.Commit{Size: 1, Sent: 1})
	seed(&protocol.List{Place: at("."), Flags: protocol.ListDeep}, &protocol.More{Frames: 1}, putOf("g", "abc"), &protocol.Cancel{})
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := newRig(t, ServerConfig{})
		c := r.login()
		r.group.Go(func() { _, _ = io.Copy(io.Discard, c.conn) })
		_, _ = c.conn.Write(sent) // the server may have had enough
		_ = c.conn.CloseWrite()
		if err := <-c.ended; err == nil && len(sent) == 0 {
			t.Error("Serve = nil for a client that said no GOODBYE")
		}
		_ = c.conn.Close()
		if log := r.log.String(); strings.Contains(log, "panic") {
			t.Error(log)
		}
	})
}
