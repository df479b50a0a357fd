package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// tidyEvery is how often it is looked whether the daemon is quiet: it is when
	// less than quietBytes was allocated since the last look. Then memory that is
	// not used any more goes back to the system, if it is worthIt bytes at least.
	// By itself Go would keep that of busy hours for several minutes.
	tidyEvery  = 30 * time.Second
	quietBytes = 4 << 20
	worthIt    = 16 << 20
)

// A tidier looks whether memory can be given back.
type tidier struct {
	allocated uint64 // at the last look
	done      bool   // given back since it was busy last
}

// tidy gives memory back while nothing is going on, until ctx ends.
func (d *daemon) tidy(ctx context.Context) {
	ticker := time.NewTicker(tidyEvery)
	defer ticker.Stop()
	var t tidier
	for {
		if t.due(usage()) {
			debug.FreeOSMemory()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// due takes the next look: how much was ever allocated, and how much memory is
// held besides what the last collection found in use.
func (t *tidier) due(allocated, spare uint64) bool {
	quiet := allocated-t.allocated < quietBytes
	t.allocated = allocated
	if !quiet {
		t.done = false
		return false
	}
	due := !t.done && spare >= worthIt
	t.done = t.done || due
	return due
}

// usage asks the runtime for what due looks at.
func usage() (allocated, spare uint64) {
	samples := []metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/gc/heap/live:bytes"},
	}
	metrics.Read(samples)
	value := func(i int) uint64 {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0 // of another Go
		}
		return samples[i].Value.Uint64()
	}
	held, live := value(1)-value(2), value(3)
	return value(0), held - min(held, live)
}
