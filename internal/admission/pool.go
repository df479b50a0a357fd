package admission

import (
	"net/netip"
	"sync"
)

// A Pool is the connections that are not logged in yet. It is apart from those
// that are, so that no number of stalled ones keeps a good client out: when it
// is full, the oldest of the source that has most has to go. NewPool makes it;
// it is safe for concurrent use.
type Pool struct {
	mu      sync.Mutex
	count   int
	sources map[netip.Prefix][]*Place // each oldest first
	serial  uint64
}

// A Place is one place in a Pool.
type Place struct {
	source netip.Prefix
	age    uint64 // a smaller one is older
	evict  func() // ends the connection; must not block
}

// NewPool returns an empty pool.
func NewPool() *Pool {
	return &Pool{sources: map[netip.Prefix][]*Place{}}
}

// Add takes a place, and if there are more than limit (0: never) calls evict of
// the one that has to go. The caller calls Remove when the handshake has ended,
// also when it was evicted.
func (p *Pool) Add(remote netip.Addr, limit int, evict func()) *Place {
	p.mu.Lock()
	p.serial++
	one := &Place{source: sourceOf(remote), age: p.serial, evict: evict}
	p.sources[one.source] = append(p.sources[one.source], one)
	p.count++
	var victim *Place
	if limit > 0 && p.count > limit {
		victim = p.oldest()
		p.drop(victim)
	}
	p.mu.Unlock()
	if victim != nil {
		victim.evict()
	}
	return one
}

// Remove gives the place back.
func (p *Pool) Remove(one *Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(one)
}

// EvictAll ends every handshake.
func (p *Pool) EvictAll() {
	p.mu.Lock()
	var all []*Place
	for _, list := range p.sources {
		all = append(all, list...)
	}
	p.mu.Unlock()
	for _, one := range all {
		one.evict()
	}
}

// Len returns how many places are taken.
func (p *Pool) Len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// oldest is the oldest of the busiest source; of equally busy ones that whose
// oldest is oldest. p.mu is held and the pool is not empty.
func (p *Pool) oldest() *Place {
	var busiest []*Place
	for _, list := range p.sources {
		if len(list) > len(busiest) || len(list) == len(busiest) && list[0].age < busiest[0].age {
			busiest = list
		}
	}
	return busiest[0]
}

// drop takes one out if it is still in. p.mu is held.
func (p *Pool) drop(one *Place) {
	list := p.sources[one.source]
	for i, other := range list {
		if other != one {
			continue
		}
		p.count--
		if len(list) == 1 {
			delete(p.sources, one.source)
		} else {
			p.sources[one.source] = append(list[:i:i], list[i+1:]...)
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
