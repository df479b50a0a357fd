package admission

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Visitors counts the clients that are logged in, and numbers connections.
// Servers that share one count together. NewVisitors makes it; it is safe for
// concurrent use.
type Visitors struct {
	serial atomic.Uint64

	mu      sync.Mutex
	total   int
	sources map[netip.Prefix]int
}

// NewVisitors returns a count of none.
func NewVisitors() *Visitors { return &Visitors{sources: map[netip.Prefix]int{}} }

// Number returns the number of a new connection, for the log. The first is 1.
func (v *Visitors) Number() uint64 { return v.serial.Add(1) }

// Enter counts a client, or says to its user why there is no place. A nil
// error obliges the caller to call Leave.
func (v *Visitors) Enter(remote netip.Addr, l *Limits) error {
	source := sourceOf(remote)
	v.mu.Lock()
	defer v.mu.Unlock()
	if l.Connections > 0 && v.total >= l.Connections {
		return fmt.Errorf("the server has its limit of %d connections: try again later", l.Connections)
	}
	if l.PerSource > 0 && v.sources[source] >= l.PerSource {
		return fmt.Errorf("%v has its limit of %d connections: close one, or try again later", remote, l.PerSource)
	}
	v.total++
	v.sources[source]++
	return nil
}

// Leave counts a client out that Enter has counted in.
func (v *Visitors) Leave(remote netip.Addr) {
	source := sourceOf(remote)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.total--
	if v.sources[source]--; v.sources[source] == 0 {
		delete(v.sources, source)
	}
}
