package sshd

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever a stranger sends, the server neither panics nor keeps anything of
// him: the bubble ends only when every goroutine has.
func FuzzStranger(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14aaaaaaaaaa"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("SSH-1.5-x\n"))
	f.Add([]byte("SSH-2.0-x\r\n\xff\xff\xff\xff\x00"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, Limits{HandshakeTimeout: time.Minute})
			r.run(func() {
				conn, err := r.listener.Dial(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				_ = conn.SetDeadline(time.Now().Add(time.Second))
				_, _ = conn.Write(data)
				synctest.Wait()
				_ = conn.Close()
			})
			if strings.Contains(r.log.String(), "panic") {
				t.Errorf("something panicked:\n%s", r.log)
			}
		})
	})
}
