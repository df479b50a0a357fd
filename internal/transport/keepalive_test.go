package transport

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A fakePinger answers after its delay; a delay of 0 never, until it is closed.
type fakePinger struct {
	delay  time.Duration
	closed chan struct{}
	sent   atomic.Int64
}

func (p *fakePinger) SendRequest(string, bool, []byte) (bool, []byte, error) {
	p.sent.Add(1)
	answer := make(<-chan time.Time)
	if p.delay > 0 {
		answer = time.After(p.delay)
	}
	select {
	case <-answer:
	case <-p.closed:
	}
	return false, nil, nil
}

func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		name   string
		delay  time.Duration // of answers; 0: none
		data   time.Duration // something else arrives so often; 0: never
		dead   bool
		within time.Duration
	}{
		{name: "answers at once", delay: time.Millisecond},
		{name: "answers late, but in time", delay: 6 * time.Second},
		{name: "silence", dead: true, within: 15 * time.Second},
		{name: "answers far too late", delay: time.Minute, dead: true, within: 15 * time.Second},
		{name: "no answers, but data", data: 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &fakePinger{delay: tt.delay, closed: make(chan struct{})}
				stop := make(chan struct{})
				var group sync.WaitGroup
				var heard atomic.Int64
				if tt.data > 0 {
					group.Go(func() {
						for ticker := time.NewTicker(tt.data); ; {
							select {
							case <-ticker.C:
								heard.Add(100)
							case <-stop:
								ticker.Stop()
								return
							}
						}
					})
				}
				start := time.Now()
				result := make(chan bool, 1)
				group.Go(func() {
					result <- watch(stop, &group, p, func() time.Duration { return time.Duration(heard.Load()) }, keepaliveInterval, keepaliveMax)
				})
				var dead bool
				select {
				case dead = <-result:
				case <-time.After(10 * time.Minute):
				}
				took := time.Since(start)
				close(stop)
				close(p.closed)
				group.Wait()
				if dead != tt.dead || dead && took > tt.within {
					t.Errorf("dead = %v after %v, want %v within %v", dead, took, tt.dead, tt.within)
				}
				if p.sent.Load() == 0 {
					t.Error("nothing was asked")
				}
			})
		})
	}
}

func TestGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ended atomic.Int64
		g := newGuard(time.Second, func() { ended.Add(1) })
		time.AfterFunc(900*time.Millisecond, g.pause) // somebody is being asked
		time.AfterFunc(time.Hour, g.resume)
		<-time.After(time.Hour + 900*time.Millisecond)
		if ended.Load() != 0 {
			t.Error("the time ran while a person was being asked")
		}
		<-time.After(200 * time.Millisecond)
		if ended.Load() != 1 || !g.release() {
			t.Errorf("ended %d times", ended.Load())
		}
		g.resume()
		none := newGuard(0, func() { t.Error("a guard without a limit fired") })
		quick := newGuard(time.Second, func() { t.Error("a released guard fired") })
		if quick.release() {
			t.Error("release = true before the limit")
		}
		quick.resume()
		<-time.After(time.Hour)
		none.release()
	})
}
