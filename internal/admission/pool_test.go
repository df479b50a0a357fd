package admission

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFullPoolEvictsTheOldestOfTheBusiestSource(t *testing.T) {
	tests := []struct {
		name  string
		limit int
		add   string // sources in order of arrival
		want  string // arrivals that were evicted, counted from 1
	}{
		{"room for all", 3, "a b c", ""},
		{"no limit", 0, "a a a a", ""},
		{"busiest source pays", 3, "b a a a", "2"},
		{"and goes on paying", 3, "b a a a a a", "2 3 4"},
		{"a newcomer does not pay for a flood", 3, "a a a b", "1"},
		{"among equals the oldest", 3, "a b c d", "1"},
		{"a flood pays for itself alone", 2, "a b b b b", "2 3 4"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			addr := map[string]string{"a": "192.0.2.1", "b": "192.0.2.2", "c": "2001:db8::1", "d": "2001:db8:0:1::1"}
			p := NewPool()
			var evicted []string
			places := map[string]*Place{}
			for i, source := range strings.Fields(test.add) {
				n := string(rune('1' + i))
				places[n] = p.Add(netip.MustParseAddr(addr[source]), test.limit, func() { evicted = append(evicted, n) })
			}
			if got := strings.Join(evicted, " "); got != test.want {
				t.Errorf("evicted %q, want %q", got, test.want)
			}
			for _, place := range places {
				p.Remove(place) // evicted ones too, as serveConn does
			}
			if p.count != 0 || len(p.sources) != 0 {
				t.Errorf("after all have left: count %d, sources %v", p.count, p.sources)
			}
		})
	}
}

func TestSourceOf(t *testing.T) {
	tests := map[string]string{
		"192.0.2.1":        "192.0.2.1/32",
		"::ffff:192.0.2.1": "192.0.2.1/32",
		"2001:db8:1:2:3::": "2001:db8:1:2::/64",
		"fe80::1%eth0":     "fe80::/64",
	}
	for addr, want := range tests {
		if got := sourceOf(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("sourceOf(%s) = %s, want %s", addr, got, want)
		}
	}
}

func TestAdmissionCounts(t *testing.T) {
	a := NewVisitors()
	limits := &Limits{Connections: 3, PerSource: 2}
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	var got []bool
	for _, source := range []netip.Addr{one, one, one, two, two} {
		got = append(got, a.Enter(source, limits) == nil)
	}
	if diff := cmp.Diff([]bool{true, true, false, true, false}, got); diff != "" {
		t.Errorf("who was let in (-want +got):\n%s", diff)
	}
	a.Leave(one)
	if err := a.Enter(two, limits); err != nil {
		t.Errorf("after one has left: %v", err)
	}
	for _, source := range []netip.Addr{one, two, two} {
		a.Leave(source)
	}
	if a.total != 0 || len(a.sources) != 0 {
		t.Errorf("after all have left: total %d, sources %v", a.total, a.sources)
	}
}
