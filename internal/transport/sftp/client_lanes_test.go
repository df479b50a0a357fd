package sftp

import (
	"testing"
	"time"
)

func TestLanesFollowTheDistance(t *testing.T) {
	for _, tt := range []struct {
		name  string
		asked int
		trip  time.Duration
		want  int
	}{
		{"near", 0, 200 * time.Microsecond, nearLanes},
		{"far", 0, 50 * time.Millisecond, farLanes},
		{"as asked", 3, 50 * time.Millisecond, 3},
		{"one as asked", 1, 0, 1},
	} {
		c := &Client{o: ClientOptions{Lanes: tt.asked}, trip: tt.trip}
		if got := c.wanted(); got != tt.want {
			t.Errorf("%s: %d lanes, want %d", tt.name, got, tt.want)
		}
	}
}
