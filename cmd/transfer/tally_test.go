package main

import (
	"testing"
	"testing/synctest"
	"time"

	"transferd/internal/transfer"
)

func TestTallyCountsWhatIsDone(t *testing.T) {
	tests := []struct {
		name   string
		events []transfer.Event
		want   snapshot
	}{
		{
			"a file on its way, part of it resumed",
			[]transfer.Event{
				transfer.Found{Files: 1, Bytes: 100, Complete: true},
				transfer.Started{ID: 1, Path: "a", Size: 100},
				transfer.Moved{ID: 1, Bytes: 30, Resumed: true},
				transfer.Moved{ID: 1, Bytes: 20},
			},
			snapshot{bytes: 50, resumed: 30, total: 100, complete: true, filesTotal: 1},
		},
		{
			"a sparse file is done whole",
			[]transfer.Event{
				transfer.Found{Files: 1, Bytes: 100, Complete: true},
				transfer.Started{ID: 1, Path: "a", Size: 100},
				transfer.Moved{ID: 1, Bytes: 20},
				transfer.Finished{ID: 1, Path: "a", Size: 100, Status: transfer.Copied},
			},
			snapshot{bytes: 100, total: 100, complete: true, files: 1, filesTotal: 1},
		},
		{
			"what is sent twice is done once",
			[]transfer.Event{
				transfer.Found{Files: 1, Bytes: 100, Complete: true},
				transfer.Started{ID: 1, Path: "a", Size: 100},
				transfer.Moved{ID: 1, Bytes: 80},
				transfer.Moved{ID: 1, Bytes: 80},
			},
			snapshot{bytes: 100, total: 100, complete: true, filesTotal: 1},
		},
		{
			"a failed file is no longer on its way",
			[]transfer.Event{
				transfer.Found{Files: 2, Bytes: 100},
				transfer.Started{ID: 1, Path: "a", Size: 60},
				transfer.Failed{ID: 1, Path: "a"},
			},
			snapshot{total: 100, failed: 1, filesTotal: 2},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Unix(0, 0)
			tally := newTally(func() time.Time { return now })
			for _, e := range tt.events {
				tally.add(e)
			}
			got := tally.snapshot()
			got.running, got.eta = nil, 0
			if !sameSnapshot(got, tt.want) {
				t.Errorf("snapshot = %+v, want %+v", got, tt.want)
			}
		})
	}
}

func sameSnapshot(a, b snapshot) bool {
	return a.bytes == b.bytes && a.resumed == b.resumed && a.total == b.total && a.complete == b.complete &&
		a.files == b.files && a.skipped == b.skipped && a.failed == b.failed && a.filesTotal == b.filesTotal
}

func TestRateIsThatOfTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := newTally(time.Now)
		tally.add(transfer.Found{Files: 1, Bytes: 1000, Complete: true})
		tally.add(transfer.Started{ID: 1, Path: "a", Size: 1000})
		step := func(bytes int64) {
			<-time.After(time.Second)
			tally.add(transfer.Moved{ID: 1, Bytes: bytes})
		}
		for range 20 {
			step(1)
		}
		for range 10 {
			step(50)
		}
		s := tally.snapshot()
		if s.rate < 45 || s.rate > 55 {
			t.Errorf("after ten seconds at 50 B/s the rate is %v", s.rate)
		}
		if want := 480 * time.Second / 50; s.eta < want-time.Second || s.eta > want+2*time.Second {
			t.Errorf("eta = %v, want about %v", s.eta, want)
		}
		<-time.After(2 * rateWindow)
		if s := tally.snapshot(); s.rate != 0 || s.eta != -1 {
			t.Errorf("after a stall rate and eta are %v and %v, want 0 and -1", s.rate, s.eta)
		}
	})
}
