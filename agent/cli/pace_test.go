package cli

import "testing"

func TestTheHeapGrowsByWhatASmallOneNeeds(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, 300}, {1 << 20, 300}, {3 << 20, 300}, {4 << 20, 200}, {6 << 20, 100}, {8 << 20, 50}, {1 << 40, 50},
	} {
		if got := paceOf(c.live); got != c.want {
			t.Errorf("with %d bytes alive: %d %%, want %d", c.live, got, c.want)
		}
	}
}
