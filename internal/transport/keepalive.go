package transport

import (
	"sync"
	"time"
)

// keepaliveRequest is what OpenSSH sends too; a server answers it, if only to
// say that it does not know it.
const keepaliveRequest = "keepalive@openssh.com"

// pinger sends one global request and returns with its answer, as ssh.Conn
// does.
type pinger interface {
	SendRequest(name string, wantReply bool, payload []byte) (bool, []byte, error)
}

// watch asks the server for a sign of life every interval, and returns true
// when most such questions in a row found no answer, nor anything else that
// arrived: the link is dead. It returns false when stop is closed. What it
// leaves running, in group, ends with the connection.
func watch(stop <-chan struct{}, group *sync.WaitGroup, p pinger, heard func() time.Duration, interval time.Duration, most int) bool {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	answers := make(chan struct{}, 1) // 1: the last one may come when nobody listens
	asked := false
	missed, before := 0, heard()
	for {
		select {
		case <-stop:
			return false
		case <-answers:
			asked, missed = false, 0
		case <-ticker.C:
			switch now := heard(); {
			case now != before:
				before, missed = now, 0
			case asked:
				if missed++; missed >= most {
					return true
				}
			}
			if !asked {
				asked = true
				group.Go(func() {
					// The answer and the error alike say that somebody is there:
					// the end of the connection is noticed elsewhere.
					_, _, _ = p.SendRequest(keepaliveRequest, true, nil)
					answers <- struct{}{}
				})
			}
		}
	}
}
