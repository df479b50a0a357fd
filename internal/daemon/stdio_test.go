package daemon

import (
	"net"
	"testing"

	"transferd/protocol"
)

// TestAJoinOfNoSessionIsRefused: the client has the preface before it says which
// session it means, and is told that there is none.
func TestAJoinOfNoSessionIsRefused(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	client, server := net.Pipe()
	defer func() { _ = client.Close() }()
	done := make(chan error, 1)
	go func() {
		done <- JoinStdio(t.Context(), server)
		_ = server.Close()
	}()
	if err := protocol.ReadPreface(client, 0); err != nil {
		t.Fatal(err)
	}
	join, err := protocol.Append([]byte(protocol.Preface), 0, &protocol.Join{Stream: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Write(join); err != nil {
		t.Fatal(err)
	}
	frames := protocol.NewReader(client, protocol.MaxHandshakeFrame)
	h, err := frames.Next()
	if err != nil {
		t.Fatal(err)
	}
	body, err := frames.Body(nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := protocol.Decode(h.Type, body)
	if err != nil {
		t.Fatal(err)
	}
	if goodbye, ok := m.(*protocol.Goodbye); !ok || goodbye.Code != protocol.CodeJoin {
		t.Errorf("it says %+v, want GOODBYE with JOIN", m)
	}
	if err := <-done; err == nil {
		t.Error("JoinStdio = nil")
	}
}
