package sftp

import (
	"context"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"transferd/internal/tree"
)

// greeting is a VERSION with every extension that the client uses.
func greeting() []byte {
	var w builder
	w.begin(typeVersion)
	w.uint32(3)
	for _, name := range []string{extPosixRename, extStatVFS, extHardlink, extFsync, extLsetstat, extExpandPath} {
		w.text(name)
		w.text("1")
	}
	w.end()
	return w.b
}

// exercise runs every operation once. Only that it ends is of interest.
func exercise(t *testing.T, c *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, _ = c.Lstat(ctx, "a")
	_, _ = c.Stat(ctx, "a")
	for _, err := range c.List(ctx, "d") {
		if err != nil {
			break
		}
	}
	if r, err := c.Open(ctx, "a"); err == nil {
		_, _ = r.ReadAt(make([]byte, 100), 0)
		_, _ = r.Stat(ctx)
		_ = r.Close()
	}
	if w, err := c.Begin(ctx, tree.Upload{Path: "a", Size: 3, ChunkSize: mib}); err == nil {
		_ = w.WriteChunk(ctx, tree.Chunk{Data: []byte("abc")})
		_, _ = w.Commit(ctx, tree.Final{Size: 3})
	}
	_, _ = c.RealPath(ctx, "~x")
	_, _ = c.RealPath(ctx, "y")
	_, _ = c.StatFS(ctx, "a")
	_ = c.Symlink(ctx, "a", "b")
	_ = c.Rename(ctx, "a", "b", tree.RenameNoReplace)
	_ = c.Remove(ctx, "a")
	_, _ = c.Sub(ctx, "a")
	if ctx.Err() != nil {
		t.Error("the client hung on what the server sent")
	}
}

// once is a Dialer for one channel.
func once(ch io.ReadWriteCloser) Dialer {
	return func(context.Context) (io.ReadWriteCloser, error) {
		if ch == nil {
			return nil, io.ErrClosedPipe
		}
		first := ch
		ch = nil
		return first, nil
	}
}

// FuzzServerStream is a server that sends anything at all.
func FuzzServerStream(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("Welcome to host!\n"))
	f.Add(greeting())
	f.Add(append(greeting(), 0, 0, 0, 9, byte(typeHandle), 0x80, 0, 0, 1, 0, 0, 0, 0))
	f.Add(append(greeting(), 0xff, 0xff, 0xff, 0xff, byte(typeData), 0x80, 0, 0, 1))
	f.Fuzz(func(t *testing.T, sent []byte) {
		client, server := pipePair()
		done := make(chan struct{}, 2)
		go func() {
			defer func() { done <- struct{}{} }()
			_, _ = io.Copy(io.Discard, server)
		}()
		go func() {
			defer func() { done <- struct{}{} }()
			_, _ = server.Write(sent)
			_ = server.Close()
		}()
		c, err := NewClient(t.Context(), once(client), ClientOptions{})
		if err == nil {
			exercise(t, c)
			_ = c.Close()
		}
		_ = client.Close()
		<-done
		<-done
	})
}

// FuzzServerAnswers is a server that gives every request an answer, of whatever
// type and content.
func FuzzServerAnswers(f *testing.F) {
	add := func(answers ...[]byte) {
		var in []byte
		for _, a := range answers {
			in = append(in, byte(len(a)))
			in = append(in, a...)
		}
		f.Add(in)
	}
	file := []byte{byte(typeAttrs), 0, 0, 0, attrPerm | attrSize, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0x81, 0xa4}
	ok := []byte{byte(typeStatus), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	handle := []byte{byte(typeHandle), 0, 0, 0, 1, 'h'}
	name := []byte{byte(typeName), 0, 0, 0, 1, 0, 0, 0, 1, 'n', 0, 0, 0, 0, 0, 0, 0, 0}
	data := []byte{byte(typeData), 0, 0, 0, 3, 'a', 'b', 'c'}
	eof := []byte{byte(typeStatus), 0, 0, 0, 1}
	add()
	add(file, file, handle, name, eof, file, handle, data, eof, file, ok, file, handle, ok, ok, ok, file, ok, ok)
	add(file, file, handle, name, name, name, name, data, data)
	add(name, ok, ok, handle, handle, eof, data, file)
	f.Fuzz(func(t *testing.T, answers []byte) {
		client, server := pipePair()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { _ = server.Close() }()
			r := packetReader{r: server}
			if _, err := r.next(); err != nil {
				return
			}
			if _, err := server.Write(greeting()); err != nil {
				return
			}
			for len(answers) > 0 {
				p, err := r.next()
				if err != nil || len(p) < 5 {
					return
				}
				n := min(int(answers[0]), len(answers)-1)
				a := answers[1 : 1+n]
				answers = answers[1+n:]
				if len(a) == 0 {
					a = []byte{byte(typeStatus)}
				}
				frame := binary.BigEndian.AppendUint32(nil, uint32(len(a)+4))
				frame = append(append(append(frame, a[0]), p[1:5]...), a[1:]...)
				if _, err := server.Write(frame); err != nil {
					return
				}
			}
		}()
		c, err := NewClient(t.Context(), once(client), ClientOptions{})
		if err == nil {
			exercise(t, c)
			_ = c.Close()
		}
		_ = client.Close()
		<-done
	})
}
