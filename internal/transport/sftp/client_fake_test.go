package sftp

import (
	"errors"
	"io"
	"strings"
	"testing"

	"transferd/internal/tree"
)

// fake is a server that answers as answer says: the type and the fields behind
// the id. It ends with its channel.
func fake(answer func(t packetType, body cursor) (packetType, []byte)) io.ReadWriteCloser {
	client, server := pipePair()
	go func() {
		defer func() { _ = server.Close() }()
		r := packetReader{r: server}
		if _, err := r.next(); err != nil {
			return
		}
		if _, err := server.Write(greeting()); err != nil {
			return
		}
		for {
			p, err := r.next()
			if err != nil {
				return
			}
			body := p.body()
			id := body.uint32()
			t, fields := answer(p.kind(), body)
			var w builder
			w.begin(t)
			w.uint32(id)
			w.b = append(w.b, fields...)
			w.end()
			if _, err := server.Write(w.b); err != nil {
				return
			}
		}
	}()
	return client
}

func statusFields(c code, text string) []byte {
	var w builder
	w.uint32(uint32(c))
	w.text(text)
	w.text("")
	return w.b
}

func TestFailedWriteOnAFullDiskNamesIt(t *testing.T) {
	for _, test := range []struct {
		name  string
		avail uint64
		full  bool
	}{{"full", 0, true}, {"room", 1 << 40, false}} {
		t.Run(test.name, func(t *testing.T) {
			c := newTestClient(t, once(fake(func(kind packetType, body cursor) (packetType, []byte) {
				var w builder
				switch kind {
				case typeLstat:
					return typeStatus, statusFields(codeNoSuchFile, "No such file")
				case typeOpen:
					w.text("handle")
					return typeHandle, w.b
				case typeWrite:
					return typeStatus, statusFields(codeFailure, "Failure")
				case typeExtended:
					if body.text() == extStatVFS {
						for i := range 11 {
							w.uint64(map[int]uint64{0: 1, 1: 1, 4: test.avail}[i])
						}
						return typeExtendedReply, w.b
					}
				}
				return typeStatus, statusFields(codeOK, "")
			})), ClientOptions{User: "me@host:22", Lanes: 1})
			err := putFile(t, c, tree.Upload{Path: "d/f"}, []byte("data"))
			if err == nil || errors.Is(err, tree.ErrNoSpace) != test.full || !strings.Contains(err.Error(), "me@host:22:/d/f") {
				t.Errorf("upload: %v, no space should be %v", err, test.full)
			}
		})
	}
}
