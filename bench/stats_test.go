package bench

import (
	"math"
	"testing"
)

func TestQuantiles(t *testing.T) {
	for _, c := range []struct {
		xs   []float64
		q    float64
		want float64
	}{
		{[]float64{3}, 0.25, 3},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{5, 1, 3, 2, 4}, 0.25, 2},
		{[]float64{5, 1, 3, 2, 4}, 0.75, 4},
		{[]float64{5, 1, 3, 2, 4}, 1, 5},
		{[]float64{0, 10}, 0.1, 1},
	} {
		if got := quantile(c.xs, c.q); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.xs, c.q, got, c.want)
		}
	}
	if !math.IsNaN(median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

// A drift that hits both of a pair must not show in the ratio.
func TestRatiosOfPairs(t *testing.T) {
	r := pairRatios([]float64{2, 1, 4, 8}, []float64{4, 2, 8, 16})
	if r.Median != 0.5 || r.Spread != 0 || len(r.Pairs) != 4 {
		t.Errorf("%+v", r)
	}
	if pairRatios(nil, []float64{1}) != nil {
		t.Error("a ratio of no pair")
	}
}

func TestNoRankingWithoutADifference(t *testing.T) {
	for _, c := range []struct {
		r    Ratio
		want string
	}{
		{Ratio{Median: 1.19, Q1: 1.1, Q3: 1.3}, "unresolved"},
		{Ratio{Median: 1.25, Q1: 1.1, Q3: 1.3}, "faster"},
		{Ratio{Median: 1.25, Q1: 0.9, Q3: 1.9}, "unresolved"},
		{Ratio{Median: 0.81, Q1: 0.8, Q3: 0.9}, "unresolved"},
		{Ratio{Median: 0.75, Q1: 0.7, Q3: 0.8}, "slower"},
		{Ratio{Median: 0.75, Q1: 0.7, Q3: 1.1}, "unresolved"},
	} {
		if got := c.r.Verdict(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.r, got, c.want)
		}
	}
}

func TestStealOfCPUTime(t *testing.T) {
	before, err := parseCPUTime("cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 1 2 3\n")
	if err != nil || before != (cpuTime{total: 1000, steal: 100}) {
		t.Fatalf("%+v, %v", before, err)
	}
	after, err := parseCPUTime("cpu  200 0 100 1500 0 0 0 200 50 0\n")
	if err != nil || after.stealPercentSince(before) != 10 {
		t.Errorf("%+v, %v: %v %%, want 10", after, err, after.stealPercentSince(before))
	}
	for _, bad := range []string{"", "cpu 1 2\n", "intr 1 2 3 4 5 6 7 8 9\n", "cpu a b c d e f g h i j\n"} {
		if _, err := parseCPUTime(bad); err == nil {
			t.Errorf("%q is not refused", bad)
		}
	}
}
