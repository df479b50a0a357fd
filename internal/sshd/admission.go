package sshd

import (
	"fmt"
	"net/netip"
	"sync"
)

// An admission counts the connections that are logged in.
type admission struct {
	mu      sync.Mutex
	total   int
	sources map[netip.Prefix]int
}

func newAdmission() *admission { return &admission{sources: map[netip.Prefix]int{}} }

// enter counts a connection, or says to its user why there is no place. A nil
// error obliges the caller to call leave.
func (a *admission) enter(remote netip.Addr, l *Limits) error {
	source := sourceOf(remote)
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.Connections > 0 && a.total >= l.Connections {
		return fmt.Errorf("the server has its limit of %d connections: try again later", l.Connections)
	}
	if l.PerSource > 0 && a.sources[source] >= l.PerSource {
		return fmt.Errorf("%v has its limit of %d connections: close one, or try again later", remote, l.PerSource)
	}
	a.total++
	a.sources[source]++
	return nil
}

func (a *admission) leave(remote netip.Addr) {
	source := sourceOf(remote)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.sources[source]--; a.sources[source] == 0 {
		delete(a.sources, source)
	}
}
