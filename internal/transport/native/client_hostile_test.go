package native

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

// A server that breaks the rules loses the session, is told why, and harms
// nobody; the next operation gets a new one.
func TestAHostileServerLosesTheSession(t *testing.T) {
	lstat := func(ctx context.Context, c *Client) error {
		_, err := c.Lstat(ctx, "f")
		return err
	}
	read := func(ctx context.Context, c *Client) error {
		f, err := c.Open(ctx, "f")
		if err != nil {
			return err
		}
		_, err = f.ReadAt(make([]byte, 1000), 5000)
		return errors.Join(err, f.Close())
	}
	list := func(ctx context.Context, c *Client) error {
		for _, err := range c.List(ctx, ".") {
			if err != nil {
				return err
			}
		}
		return nil
	}
	named := func(name string) protocol.Message {
		return &protocol.Listed{Last: true, Names: []protocol.Listing{{Path: name, Entry: protocol.Entry{Kind: protocol.KindFile}}}}
	}
	data := func(d protocol.Data) protocol.Message {
		d.Payload = make([]byte, d.Length)
		return &d
	}
	for _, test := range []struct {
		name   string
		do     func(ctx context.Context, c *Client) error
		to     protocol.Type // what is answered wrongly
		answer protocol.Message
		id     uint64 // added to the request's
		times  int    // 0: once
		code   protocol.Code
	}{
		{name: "answer to nobody", do: lstat, to: protocol.TypeStat, answer: &protocol.OK{}, id: 1000, code: protocol.CodeBadState},
		{name: "answer of another kind", do: lstat, to: protocol.TypeStat, answer: &protocol.OK{}, code: protocol.CodeBadState},
		{name: "second answer", do: lstat, to: protocol.TypeStat, answer: &protocol.Found{}, times: 2, code: protocol.CodeBadState},
		{name: "welcome again", do: lstat, to: protocol.TypeStat, answer: &protocol.Offered{}, code: protocol.CodeBadState},
		{name: "data to a stat", do: lstat, to: protocol.TypeStat, answer: data(protocol.Data{Length: 10}), code: protocol.CodeBadState},
		{name: "path as a name", do: list, to: protocol.TypeList, answer: named("a/b"), code: protocol.CodeBadPath},
		{name: "root as a name", do: list, to: protocol.TypeList, answer: named("."), code: protocol.CodeBadPath},
		{name: "more names than were granted", do: list, to: protocol.TypeList, answer: &protocol.Listed{}, times: 100, code: protocol.CodeBadState},
		{
			name: "data before the place", do: read, to: protocol.TypeRead,
			answer: data(protocol.Data{Offset: 0, Length: 1000, Flags: protocol.DataLast}), code: protocol.CodeWrongOffset,
		},
		{
			name: "data beyond the buffer", do: read, to: protocol.TypeRead,
			answer: data(protocol.Data{Offset: 5000, Length: 1001, Flags: protocol.DataLast}), code: protocol.CodeWrongOffset,
		},
		{
			name: "hole beyond the buffer", do: read, to: protocol.TypeRead,
			answer: &protocol.Data{Offset: 5000, Length: 4 << 20, Encoding: protocol.EncodingHole, Flags: protocol.DataLast},
			code:   protocol.CodeWrongOffset,
		},
		{
			name: "less data than was asked for", do: read, to: protocol.TypeRead,
			answer: data(protocol.Data{Offset: 5000, Length: 999, Flags: protocol.DataLast}), code: protocol.CodeBadMessage,
		},
		{
			name: "data without end", do: read, to: protocol.TypeRead,
			answer: data(protocol.Data{Offset: 5000}), times: 100, code: protocol.CodeWrongOffset,
		},
		{
			name: "zstd that is none", do: read, to: protocol.TypeRead,
			answer: &protocol.Data{Offset: 5000, Length: 1000, Encoding: protocol.EncodingZstd, Payload: []byte("no"), Flags: protocol.DataLast},
			code:   protocol.CodeBadMessage,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := make(chan error, 2)
				f := newFake(t, func(s *stream, number int) {
					good := found(s)
					ends <- each(s, func(f frame) {
						if number > 0 || f.Type != test.to {
							good(f)
							return
						}
						for range max(1, test.times) {
							if d, ok := test.answer.(*protocol.Data); ok {
								_ = s.sendData(t.Context(), f.ID+test.id, d)
							} else {
								reply(s, f.ID+test.id, test.answer)
							}
						}
					})
				})
				c := f.client()
				if err := test.do(t.Context(), c); test.times != 2 && !errors.Is(err, tree.ErrLost) {
					t.Errorf("operation = %v, want tree.ErrLost", err)
				}
				if err := <-ends; goodbyeOf(err) != test.code {
					t.Errorf("the server heard %v, want GOODBYE with %v", err, test.code)
				}
				synctest.Wait()
				if e, err := c.Lstat(t.Context(), "f"); err != nil || e.Size != 5 {
					t.Errorf("Lstat on a new session = %+v, %v", e, err)
				}
			})
		})
	}
}

func TestAServerThatNeverAnswersIsNotWaitedForAlways(t *testing.T) {
	mute := func(s *stream) { _, _ = io.Copy(io.Discard, s.conn) }
	hold := func(s *stream) { _ = each(s, func(frame) {}) }
	for _, test := range []struct {
		name  string
		serve func(s *stream) // instead of a handshake
		bind  protocol.Binding
		want  error
	}{
		{"closes", func(*stream) {}, protocol.BindingSSH, ErrNotNative},
		{"silent", mute, protocol.BindingSSH, ErrNotNative},
		{"silent stdio", mute, protocol.BindingStdio, ErrNotNative},
		{"speaks something else", func(s *stream) {
			_ = s.sendRaw([]byte("SSH-2.0-OpenSSH_9.9\r\nand so on"))
			mute(s)
		}, protocol.BindingSSH, ErrNotNative},
		{"says too much", func(s *stream) {
			_ = s.sendRaw(make([]byte, 2*protocol.StdioNoise))
			mute(s)
		}, protocol.BindingStdio, ErrNotNative},
		{"no hello", func(s *stream) {
			_ = errors.Join(s.sendPreface(), s.readPreface(0))
			hold(s)
		}, protocol.BindingSSH, tree.ErrLost},
		{"pings only", func(s *stream) {
			_ = errors.Join(s.sendPreface(), s.readPreface(0))
			var group sync.WaitGroup
			group.Go(func() { hold(s) })
			for s.post(0, &protocol.Ping{}) == nil {
				<-time.After(time.Second)
			}
			group.Wait()
		}, protocol.BindingSSH, tree.ErrLost},
		{"no welcome", func(s *stream) {
			_ = errors.Join(s.sendPreface(), s.readPreface(0))
			reply(s, 0, &protocol.ServerHello{Version: 1, MaxData: protocol.MaxData})
			hold(s)
		}, protocol.BindingSSH, tree.ErrLost},
		{"proof nobody asked for", func(s *stream) {
			_ = errors.Join(s.sendPreface(), s.readPreface(0))
			reply(s, 0, &protocol.ServerHello{Version: 1, MaxData: protocol.MaxData})
			reply(s, 0, &protocol.HostProof{})
			hold(s)
		}, protocol.BindingSSH, tree.ErrLost},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, nil)
				c, err := NewClient(t.Context(), ClientOptions{Control: func(context.Context) (*Stream, Prover, error) {
					client, server := f.pipe(test.bind)
					f.group.Go(func() {
						defer server.Close()
						test.serve(server)
					})
					return client, nil, nil
				}})
				if c != nil || !errors.Is(err, test.want) {
					t.Errorf("NewClient = %v, want %v", err, test.want)
				}
				f.group.Wait()
			})
		})
	}
}

func TestAShellMaySpeakBeforeStdio(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(s *stream, _ int) { _ = each(s, found(s)) })
		f.binding, f.noise = protocol.BindingStdio, "Welcome to this machine!\n\x89\x89transfer\n"
		if _, err := f.client().Lstat(t.Context(), "f"); err != nil {
			t.Error(err)
		}
	})
}

func TestASilentSessionIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(s *stream, number int) {
			_ = each(s, func(frame) {
				s.conn.ReadWriteCloser.(interface{ Stall() }).Stall() // not even a PONG comes
			})
		})
		if _, err := f.client().Lstat(t.Context(), "f"); !errors.Is(err, tree.ErrLost) {
			t.Errorf("Lstat = %v, want tree.ErrLost", err)
		}
	})
}

func TestARefusalIsNoLostConnection(t *testing.T) {
	for code, lost := range map[protocol.Code]bool{
		protocol.CodeVersion: false, protocol.CodePermission: false, protocol.CodeShutdown: true, protocol.CodeLimit: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, nil)
			_, err := NewClient(t.Context(), ClientOptions{Control: func(context.Context) (*Stream, Prover, error) {
				client, server := f.pipe(protocol.BindingSSH)
				f.group.Go(func() {
					_ = errors.Join(server.sendPreface(), server.readPreface(0))
					server.goodbye(code, "because")
				})
				return client, nil, nil
			}})
			if goodbyeOf(err) != code || errors.Is(err, tree.ErrLost) != lost {
				t.Errorf("%v: NewClient = %v, want lost: %v", code, err, lost)
			}
			f.group.Wait()
		})
	}
}

func TestFailTellsTheSentinel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(s *stream, _ int) {
			_ = each(s, func(f frame) { reply(s, f.ID, &protocol.Fail{Code: protocol.CodeNotFound, Message: "gone"}) })
		})
		var path *fs.PathError
		if _, err := f.client().Lstat(t.Context(), "a/b"); !errors.Is(err, fs.ErrNotExist) || !errors.As(err, &path) || path.Path != "/a/b" {
			t.Errorf("Lstat = %v, want fs.ErrNotExist of a/b", err)
		}
	})
}

func TestCancelledByTheServerIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(s *stream, _ int) {
			_ = each(s, func(f frame) { reply(s, f.ID, &protocol.Fail{Code: protocol.CodeCancelled}) })
		})
		if _, err := f.client().Lstat(t.Context(), "f"); !errors.Is(err, tree.ErrLost) || errors.Is(err, context.Canceled) {
			t.Errorf("Lstat = %v, want tree.ErrLost and nothing about a context", err)
		}
	})
}
