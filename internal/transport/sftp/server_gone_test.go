//go:build linux

package sftp

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"

	"transferd/internal/tree"
)

// countFS counts READs.
type countFS struct {
	diskFS
	reads *atomic.Int64
}

type countFile struct {
	tree.File
	reads *atomic.Int64
}

func (s countFS) OpenFile(ctx context.Context, p tree.Path, flags tree.OpenFlags, perm tree.Perm) (tree.File, error) {
	f, err := s.diskFS.OpenFile(ctx, p, flags, perm)
	return countFile{f, s.reads}, err
}

func (f countFile) ReadAt(p []byte, off int64) (int, error) {
	f.reads.Add(1)
	return f.File.ReadAt(p, off)
}

// A goneClient has sent much, hears the answers to its first requests, and is
// gone then.
type goneClient struct {
	io.Reader
	heard chan []byte // answers, each a packet
	gone  atomic.Bool
}

func (c *goneClient) Write(p []byte) (int, error) {
	if c.gone.Load() {
		return 0, io.ErrClosedPipe
	}
	c.heard <- bytes.Clone(p)
	return len(p), nil
}

func (c *goneClient) Close() error { return nil }

// A client could otherwise make the server read its disks for minutes with half
// a megabyte of requests, and be gone.
func TestReadsForAClientThatIsGoneAreLeftOut(t *testing.T) {
	const requests = 5000
	d := countFS{newDiskFS(t), new(atomic.Int64)}
	writeFile(t, d.diskFS, "file", "contents")
	r, w := io.Pipe()
	c := &goneClient{Reader: r, heard: make(chan []byte)}
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), c, d, ServerOptions{}) }()

	hear := func(request []byte) packet {
		go func() { _, _ = w.Write(request) }() // Serve reads it
		return packet((<-c.heard)[4:])
	}
	hear([]byte{0, 0, 0, 5, byte(typeInit), 0, 0, 0, 3})
	opened := hear(requestPacket(typeOpen, 1, "/file", uint32(openRead|openWrite), attrs{}))
	fields := opened.body()
	fields.uint32()
	name := fields.text()
	c.gone.Store(true)
	var all []byte
	for id := range uint32(requests) {
		all = append(all, requestPacket(typeRead, id, name, uint64(0), uint32(8))...)
	}
	// What it wrote last still counts.
	all = append(all, requestPacket(typeWrite, requests, name, uint64(0), "CONTENTS")...)
	if _, err := w.Write(all); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("Serve does not say that the client is gone")
	}
	if n := d.reads.Load(); n > 2*maxReads {
		t.Errorf("%d READs were carried out, want at most %d", n, 2*maxReads)
	}
	if got := readFile(t, d.diskFS, "file"); got != "CONTENTS" {
		t.Errorf("the file holds %q", got)
	}
}
