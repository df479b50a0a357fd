//go:build linux

package sftp

import (
	"os"
	"testing"
)

func TestSessionsShareTheirHandles(t *testing.T) {
	disk := newDiskFS(t)
	if err := os.WriteFile(disk.abs("file"), []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := NewHandles(4, nil)
	connection := NewHandles(3, all)
	a := serve(t, disk, ServerOptions{Handles: connection})
	b := serve(t, disk, ServerOptions{Handles: connection})
	other := serve(t, disk, ServerOptions{Handles: NewHandles(3, all)})
	full := status{codeFailure, "Too many open handles"}
	open := func(p *peer, want status) {
		t.Helper()
		if got := p.status(typeOpen, "/file", uint32(openRead), attrs{}); got != want {
			t.Errorf("OPEN: %v, want %v", got, want)
		}
	}

	handle := a.open("/file", openRead)
	a.open("/file", openRead)
	b.open("/file", openRead)
	open(a, full)
	open(b, full)
	other.open("/file", openRead)
	open(other, full)
	a.ok(typeClose, handle)
	b.open("/file", openRead)
	open(other, full)
	if err := a.end(); err != nil {
		t.Error(err)
	}
	if err := b.end(); err != nil {
		t.Error(err)
	}
	for range 2 {
		other.open("/file", openRead)
	}
	open(other, full)
	if err := other.end(); err != nil {
		t.Error(err)
	}
	if n := all.left.Load(); n != 4 {
		t.Errorf("%d handles are left of 4", n)
	}
}
