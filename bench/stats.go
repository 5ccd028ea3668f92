package bench

import (
	"math"
	"slices"
)

// quantile of xs by linear interpolation between the nearest ranks; NaN for none.
func quantile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return math.NaN()
	}
	s := slices.Clone(xs)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	low := int(at)
	if low+1 == len(s) {
		return s[low]
	}
	part := at - float64(low)
	return s[low]*(1-part) + s[low+1]*part
}

func median(xs []float64) float64 { return quantile(xs, 0.5) }

// Ratio sums up the ratios of back-to-back pairs.
type Ratio struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"` // lower quartile
	Q3     float64 `json:"q3"` // upper quartile
	// Spread is the distance between the quartiles as a part of the median.
	Spread float64   `json:"spread"`
	Pairs  []float64 `json:"pairs"`
}

// pairRatios divides what two candidates did in the same rounds. It is nil when
// there is no such round.
func pairRatios(a, b []float64) *Ratio {
	n := min(len(a), len(b))
	if n == 0 {
		return nil
	}
	r := &Ratio{}
	for i := range n {
		r.Pairs = append(r.Pairs, a[i]/b[i])
	}
	r.Median, r.Q1, r.Q3 = median(r.Pairs), quantile(r.Pairs, 0.25), quantile(r.Pairs, 0.75)
	r.Spread = (r.Q3 - r.Q1) / r.Median
	return r
}

// resolution is the difference below which two candidates count as equal: the
// same setup measured twice differs by that much on a shared machine.
const resolution = 0.20

// Verdict says what a ratio can carry.
func (r *Ratio) Verdict() string {
	switch {
	case r.Median >= 1+resolution && r.Q1 > 1:
		return "faster"
	case r.Median <= 1-resolution && r.Q3 < 1:
		return "slower"
	}
	return "unresolved"
}
