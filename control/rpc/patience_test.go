package rpc

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

// limited is a call through a RateLimiter to a server that counts what arrives and
// answers with what answer has.
type limited struct {
	*RateLimiter
	answer        error
	tries, served int
}

func (l *limited) call(ctx context.Context) error {
	serve := l.Unary(NewRefusals(slog.New(slog.DiscardHandler)))
	invoke := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		l.tries++
		_, err := serve(ctx, nil, info, func(context.Context, any) (any, error) {
			l.served++
			return nil, l.answer
		})
		return err
	}
	return Patience()(ctx, "", nil, nil, nil, invoke)
}

func TestPatience(t *testing.T) {
	l := &limited{RateLimiter: NewRateLimiter(100, 5)}
	begin := time.Now()
	for range 25 {
		if err := l.call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(begin); took < 190*time.Millisecond { // 20 of them by 10 ms each
		t.Errorf("it took %s, which the limiter does not allow", took)
	}
	if l.served != 25 || l.tries <= 25 {
		t.Errorf("%d calls were served, by %d tries", l.served, l.tries)
	}
}

func TestPatienceEnds(t *testing.T) {
	l := &limited{RateLimiter: NewRateLimiter(0.001, 1)}
	if err := l.call(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := l.call(ctx); grpcstatus.Code(err) != codes.ResourceExhausted || ctx.Err() != nil {
		t.Errorf("a deadline that is too near: %v", err)
	}
	stopped, stop := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, stop)
	if err := l.call(stopped); grpcstatus.Code(err) != codes.ResourceExhausted {
		t.Errorf("a context that ends: %v", err)
	}
	if l.served != 1 {
		t.Errorf("%d calls were served", l.served)
	}
}

// TestPatienceIsForRateLimits: a full database has the same code, and would not be
// emptier soon.
func TestPatienceIsForRateLimits(t *testing.T) {
	for _, err := range []error{grpcstatus.Error(codes.ResourceExhausted, "etcd's database is full"), grpcstatus.Error(codes.Unavailable, "gone"), errors.New("odd")} {
		l := &limited{RateLimiter: NewRateLimiter(100, 5), answer: err}
		if got := l.call(t.Context()); !errors.Is(got, err) || l.tries != 1 {
			t.Errorf("%v after %d tries, want %v", got, l.tries, err)
		}
	}
}

func TestBackoff(t *testing.T) {
	for range 100 {
		for try, low := range []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond} {
			if got := backoff(20*time.Millisecond, try); got < low || got >= low*3/2 {
				t.Fatalf("try %d: %s", try, got)
			}
		}
		if got := backoff(time.Millisecond, 1000); got < maxPause/2 || got > 2*maxPause {
			t.Fatalf("try 1000: %s", got)
		}
		if got := backoff(time.Hour, 3); got < time.Hour || got > 2*time.Hour {
			t.Fatalf("a wait that is long: %s", got)
		}
		if got := backoff(-time.Hour, 0); got <= 0 {
			t.Fatalf("a wait that is none: %s", got)
		}
	}
}
