package rpc

import (
	"context"
	"log/slog"
	"sync/atomic"

	"golang.org/x/time/rate"
)

const (
	refusalsPerSecond = 5
	refusalBurst      = 50
)

// Refusals writes to a log who was turned away, so that whoever tries a thousand
// times fills no disk: what is left out is counted in the next line.
type Refusals struct {
	log     *slog.Logger
	limit   *rate.Limiter
	skipped atomic.Uint64
}

// NewRefusals writes to log.
func NewRefusals(log *slog.Logger) *Refusals {
	return &Refusals{log: log, limit: rate.NewLimiter(refusalsPerSecond, refusalBurst)}
}

// Log writes one refusal, or counts it.
func (r *Refusals) Log(what string, attrs ...slog.Attr) {
	if !r.limit.Allow() {
		r.skipped.Add(1)
		return
	}
	if n := r.skipped.Swap(0); n > 0 {
		attrs = append(attrs, slog.Uint64("alsoRefused", n))
	}
	r.log.LogAttrs(context.Background(), slog.LevelWarn, what, attrs...)
}
