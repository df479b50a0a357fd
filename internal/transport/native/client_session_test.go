package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/tree"
	"transferd/protocol"
)

func TestOperationsWaitInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		most := 0
		f := newFake(t, func(s *stream, _ int) {
			open := map[uint64]bool{}
			var group sync.WaitGroup
			_ = each(s, func(f frame) {
				mu.Lock()
				open[f.ID] = true
				most = max(most, len(open))
				mu.Unlock()
				group.Go(func() {
					<-time.After(time.Millisecond)
					mu.Lock()
					delete(open, f.ID)
					mu.Unlock()
					found(s)(f)
				})
			})
			group.Wait()
		})
		c := f.client()
		var group sync.WaitGroup
		for range 1000 {
			group.Go(func() {
				if _, err := c.Lstat(t.Context(), "f"); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if most != protocol.MinOperations {
			t.Errorf("%d operations were open, want %d", most, protocol.MinOperations)
		}
	})
}

func TestALostConnectionFailsWhatWaitsAndTheNextDials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var served *stream
		f := newFake(t, func(s *stream, number int) {
			served = s
			_ = each(s, func(f frame) {
				if number > 0 {
					found(s)(f)
				}
			})
		})
		c := f.client()
		var group sync.WaitGroup
		for range 40 { // more than may be open
			group.Go(func() {
				if _, err := c.Lstat(t.Context(), "f"); !errors.Is(err, tree.ErrLost) {
					t.Errorf("Lstat = %v, want tree.ErrLost", err)
				}
			})
		}
		synctest.Wait()
		f.conns[0].Cut()
		served.fail(errCutShort)
		group.Wait()
		if _, err := c.Lstat(t.Context(), "f"); err != nil {
			t.Errorf("Lstat on a new session = %v", err)
		}
		if f.count != 2 {
			t.Errorf("%d sessions, want 2", f.count)
		}
	})
}

func TestASubTreeOutlivesItsConnection(t *testing.T) {
	for _, test := range []struct {
		name     string
		replaced bool
	}{{"same directory", false}, {"another directory", true}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []protocol.Message
				f := newFake(t, func(s *stream, number int) {
					_ = each(s, func(f frame) {
						asked = append(asked, f.Message)
						if _, ok := f.Message.(*protocol.StatFile); ok {
							inode := uint64(7)
							if test.replaced {
								inode += uint64(number)
							}
							reply(s, f.ID, &protocol.Found{Entry: protocol.Entry{Kind: protocol.KindDir, Inode: inode}})
							return
						}
						found(s)(f)
					})
				})
				c := f.client()
				sub, err := c.Sub(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				below, err := sub.Sub(t.Context(), "b")
				if err != nil {
					t.Fatal(err)
				}
				if err := sub.Close(); err != nil { // what is below it still needs it
					t.Error(err)
				}
				if _, err := sub.Lstat(t.Context(), "f"); !errors.Is(err, tree.ErrClosed) {
					t.Errorf("Lstat after Close = %v, want tree.ErrClosed", err)
				}
				f.conns[0].Cut()
				synctest.Wait()
				asked = nil
				_, err = below.Lstat(t.Context(), "f")
				if test.replaced {
					if !errors.Is(err, errReplaced) {
						t.Errorf("Lstat below another directory = %v, want errReplaced", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				a, b := asked[0].(*protocol.OpenDir), asked[2].(*protocol.OpenDir)
				last := asked[4].(*protocol.Stat)
				if a.Dir != 0 || a.Path != "a" || b.Dir != a.Handle || b.Path != "b" || last.Dir != b.Handle {
					t.Errorf("on the new session came %+v", asked)
				}
				if err := below.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A READ that nobody waits for any more may be in the middle of its bytes.
func TestCancelInTheMiddleOfData(t *testing.T) {
	for _, test := range []struct {
		name  string
		stuck bool // the rest does not come before the buffer has to be given back
	}{{"rest comes", false}, {"rest does not come", true}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const size = protocol.MaxRead
				rest := make(chan struct{})
				half := make(chan struct{})
				f := newFake(t, func(s *stream, _ int) {
					_ = each(s, func(f frame) {
						m, ok := f.Message.(*protocol.Read)
						if !ok {
							found(s)(f)
							return
						}
						payload := bytes.Repeat([]byte{1}, protocol.MaxData)
						d := protocol.Data{Offset: m.Offset, Length: protocol.MaxData, Payload: payload}
						_ = s.sendData(t.Context(), f.ID, &d)
						d.Offset += protocol.MaxData
						b, _ := protocol.AppendData(nil, f.ID, &d)
						_ = s.sendRaw(append(b, payload[:step+100]...))
						close(half)
						<-rest
						_ = s.sendRaw(payload[step+100:])
						for _, last := range []protocol.DataFlags{0, protocol.DataLast | protocol.DataValue} {
							d.Offset += protocol.MaxData
							d.Flags = last
							_ = s.sendData(t.Context(), f.ID, &d)
						}
					})
				})
				c := f.client()
				file, err := c.Open(t.Context(), "f")
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-half
					synctest.Wait()
					cancel()
				}()
				if !test.stuck {
					go func() {
						<-ctx.Done()
						close(rest)
					}()
				}
				buf := make([]byte, size)
				before := time.Now()
				if _, err := file.(tree.ChunkReader).ReadChunk(ctx, buf, 0, size, size); !errors.Is(err, context.Canceled) {
					t.Errorf("ReadChunk = %v, want context.Canceled", err)
				}
				if d := time.Since(before); d > time.Second {
					t.Errorf("ReadChunk returned after %v", d)
				}
				clear(buf)
				if test.stuck {
					close(rest)
				}
				synctest.Wait()
				if bytes.IndexByte(buf, 1) >= 0 {
					t.Error("the buffer was written to when it had been given back")
				}
				if _, err := c.Lstat(t.Context(), "f"); err != nil {
					t.Errorf("Lstat behind it = %v", err)
				}
				if lost := f.count > 1; lost != test.stuck {
					t.Errorf("session lost: %v, want %v", lost, test.stuck)
				}
				_ = file.Close()
			})
		})
	}
}

func TestAListIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(s *stream, _ int) {
			credit, id, sent := 0, uint64(0), 0
			_ = each(s, func(f frame) {
				switch m := f.Message.(type) {
				case *protocol.List:
					credit, id = int(m.Frames), f.ID
				case *protocol.More:
					credit += int(m.Frames)
				case *protocol.Cancel:
					reply(s, f.ID, &protocol.Fail{Code: protocol.CodeCancelled})
					credit = 0
				default:
					found(s)(f)
				}
				for ; credit > 0; credit-- {
					reply(s, id, &protocol.Listed{Names: []protocol.Listing{{
						Path: fmt.Sprint(sent), Entry: protocol.Entry{Kind: protocol.KindFile},
					}}})
					sent++
				}
			})
		})
		c := f.client()
		n := 0
		for e, err := range c.List(t.Context(), ".") {
			if err != nil || e.Name != fmt.Sprint(n) {
				t.Fatalf("List gave %q, %v, want %d", e.Name, err, n)
			}
			if n++; n == 50 {
				break
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last error
		for _, err := range c.List(ctx, ".") {
			cancel()
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("List = %v, want context.Canceled", last)
		}
		synctest.Wait()
		if _, err := c.Lstat(t.Context(), "f"); err != nil || f.count != 1 {
			t.Errorf("Lstat behind it = %v, in session %d", err, f.count)
		}
	})
}

func TestReadsGoOverJoinedStreams(t *testing.T) {
	for _, test := range []struct {
		name   string
		secret [32]byte
		breaks bool // at the first request
		want   int  // streams
	}{
		{name: "joined", secret: [32]byte{2}, want: 2},
		{name: "wrong secret", secret: [32]byte{3}, want: 1},
		{name: "lost", secret: [32]byte{2}, breaks: true, want: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				serve := func(s *stream, breaks bool) {
					_ = each(s, func(f frame) {
						switch m := f.Message.(type) {
						case *protocol.Read:
							if breaks {
								s.fail(errCutShort)
								return
							}
							_ = s.sendData(t.Context(), f.ID, &protocol.Data{
								Offset: m.Offset, Length: m.Length, Encoding: protocol.EncodingHole, Flags: protocol.DataLast,
							})
						default:
							found(s)(f)
						}
					})
				}
				f := newFake(t, func(s *stream, _ int) { serve(s, false) })
				f.welcome.Binding = protocol.BindingSSH
				f.binding = protocol.BindingSSH
				f.joined = func(s *stream) {
					if f.admit(s, test.secret) == nil {
						serve(s, test.breaks)
					}
				}
				c := f.client()
				s, err := c.live()
				if err != nil {
					t.Fatal(err)
				}
				if err := s.join(t.Context()); (err == nil) != (test.secret == f.welcome.Secret) {
					t.Errorf("join = %v", err)
				}
				file, err := c.Open(t.Context(), "f")
				if err != nil {
					t.Fatal(err)
				}
				s.control.load.Add(1) // the other one has less to do
				buf := []byte{1, 2, 3}
				if n, err := file.ReadAt(buf, 0); n != 3 || err != nil || !bytes.Equal(buf, []byte{0, 0, 0}) {
					t.Errorf("ReadAt = %d, %v, %v", n, err, buf)
				}
				if n := len(c.Describe(t.Context())); n != test.want {
					t.Errorf("%d streams, want %d", n, test.want)
				}
				_ = file.Close()
			})
		})
	}
}

// TestFilesMoveToTCP: as soon as there is a stream over TCP files go there, and
// requests stay.
func TestFilesMoveToTCP(t *testing.T) {
	for _, test := range []struct {
		name    string
		port    uint16
		streams int
		refused bool // the port
		want    int  // streams
		data    int  // the one that reads go over
	}{
		{name: "moved", port: 2023, want: 2, data: 1},
		{name: "one stream is asked for", port: 2023, streams: 1, want: 2, data: 1},
		{name: "no port", want: 1},
		{name: "nothing listens", port: 2023, refused: true, want: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				reads := make([]atomic.Int32, 2)
				serve := func(s *stream, number int) {
					_ = each(s, func(f frame) {
						m, ok := f.Message.(*protocol.Read)
						if !ok {
							found(s)(f)
							return
						}
						reads[number].Add(1)
						_ = s.sendData(t.Context(), f.ID, &protocol.Data{
							Offset: m.Offset, Length: m.Length, Encoding: protocol.EncodingHole, Flags: protocol.DataLast,
						})
					})
				}
				f := newFake(t, func(s *stream, _ int) { serve(s, 0) })
				f.welcome.Binding, f.binding = protocol.BindingSSH, protocol.BindingSSH
				f.welcome.TCPPort = test.port
				f.joined = func(s *stream) {
					if f.admit(s, f.welcome.Secret) == nil {
						serve(s, 1)
					}
				}
				c, err := NewClient(t.Context(), ClientOptions{
					Control: f.control, Join: f.join, Streams: test.streams,
					Data: func(ctx context.Context, w *protocol.Welcome) (*Stream, error) {
						if test.refused {
							return nil, errors.ErrUnsupported
						}
						return f.join(ctx, w)
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if n := len(c.Describe(t.Context())); n != test.want {
					t.Errorf("%d streams, want %d", n, test.want)
				}
				file, err := c.Open(t.Context(), "f")
				if err != nil {
					t.Fatal(err)
				}
				if n, err := file.ReadAt(make([]byte, 3), 0); n != 3 || err != nil {
					t.Errorf("ReadAt = %d, %v", n, err)
				}
				if n := reads[test.data].Load(); n != 1 {
					t.Errorf("%d reads on stream %d, want 1", n, test.data)
				}
				_ = file.Close()
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				f.group.Wait()
			})
		})
	}
}

// TestNobodyWaitsForTCP: a port that does not answer delays neither requests nor
// the end.
func TestNobodyWaitsForTCP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(s *stream, _ int) { _ = each(s, found(s)) })
		f.welcome.TCPPort = 2023
		c, err := NewClient(t.Context(), ClientOptions{
			Control: f.control, Join: f.join,
			Data: func(ctx context.Context, _ *protocol.Welcome) (*Stream, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := c.Lstat(t.Context(), "f"); err != nil {
			t.Errorf("Lstat = %v", err)
		}
		if err := c.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
		f.group.Wait()
		if d := time.Since(start); d > 0 {
			t.Errorf("it took %v longer than it had to", d)
		}
	})
}
