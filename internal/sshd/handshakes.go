package sshd

import (
	"net/netip"
	"sync"
)

// A handshakes is the pool of connections that are not logged in yet. It is
// apart from those that are, so that no number of stalled ones keeps a good
// client out: when it is full, the oldest of the source that has most has to go.
type handshakes struct {
	mu      sync.Mutex
	count   int
	sources map[netip.Prefix][]*handshake // each oldest first
	serial  uint64
}

// A handshake is one place in the pool.
type handshake struct {
	source netip.Prefix
	age    uint64 // a smaller one is older
	evict  func() // ends the connection; must not block
}

func newHandshakes() *handshakes {
	return &handshakes{sources: map[netip.Prefix][]*handshake{}}
}

// add takes a place, and if there are more than limit (0: never) calls evict of
// the one that has to go. The caller calls remove when the handshake has ended,
// also when it was evicted.
func (h *handshakes) add(remote netip.Addr, limit int, evict func()) *handshake {
	h.mu.Lock()
	h.serial++
	one := &handshake{source: sourceOf(remote), age: h.serial, evict: evict}
	h.sources[one.source] = append(h.sources[one.source], one)
	h.count++
	var victim *handshake
	if limit > 0 && h.count > limit {
		victim = h.victim()
		h.drop(victim)
	}
	h.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
	return one
}

// remove gives the place back.
func (h *handshakes) remove(one *handshake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(one)
}

// evictAll ends every handshake.
func (h *handshakes) evictAll() {
	h.mu.Lock()
	var all []*handshake
	for _, list := range h.sources {
		all = append(all, list...)
	}
	h.mu.Unlock()
	for _, one := range all {
		one.evict()
	}
}

// victim is the oldest of the busiest source; of equally busy ones that whose
// oldest is oldest. h.mu is held and the pool is not empty.
func (h *handshakes) victim() *handshake {
	var busiest []*handshake
	for _, list := range h.sources {
		if len(list) > len(busiest) || len(list) == len(busiest) && list[0].age < busiest[0].age {
			busiest = list
		}
	}
	return busiest[0]
}

// drop takes one out if it is still in. h.mu is held.
func (h *handshakes) drop(one *handshake) {
	list := h.sources[one.source]
	for i, other := range list {
		if other != one {
			continue
		}
		h.count--
		if len(list) == 1 {
			delete(h.sources, one.source)
		} else {
			h.sources[one.source] = append(list[:i:i], list[i+1:]...)
		}
		return
	}
}

// sourceOf returns what counts as one source: an IPv4 address, or the /64 that
// one IPv6 customer has at least.
func sourceOf(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no IP address: all such are one source
	}
	return prefix
}
