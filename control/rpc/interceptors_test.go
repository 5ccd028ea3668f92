package rpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

var info = &grpc.UnaryServerInfo{FullMethod: "/s/M"}

func TestRateLimiterForgetsTheQuiet(t *testing.T) {
	l := NewRateLimiter(1, 2)
	now := time.Unix(1000, 0)
	for i := range maxCallers {
		if err := l.check(by(fmt.Sprint(i)), now); err != nil {
			t.Fatal(err)
		}
	}
	if l.check(by("0"), now) != nil || grpcstatus.Code(l.check(by("0"), now)) != codes.ResourceExhausted {
		t.Error("the third call at once is to be the first that is refused")
	}
	now = now.Add(time.Second) // all are full again but the first
	if err := l.check(by("new"), now); err != nil {
		t.Error(err)
	}
	if len(l.callers) != 2 {
		t.Errorf("%d callers are kept, want 2", len(l.callers))
	}
	if l.check(by("0"), now) != nil || l.check(by("0"), now) == nil {
		t.Error("the busy one was forgotten")
	}
	for i, want := range []codes.Code{codes.OK, codes.OK, codes.ResourceExhausted} {
		if got := grpcstatus.Code(l.check(context.Background(), now)); got != want {
			t.Errorf("call %d of the unknown, who share a limit: %v", i, got)
		}
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	var log bytes.Buffer
	r := NewRefusals(slog.New(slog.NewTextHandler(&log, nil)))
	for i := range 1000 {
		r.Log("refused", slog.Int("i", i))
	}
	if n := strings.Count(log.String(), "\n"); n < refusalBurst || n > refusalBurst+refusalsPerSecond*10 {
		t.Errorf("%d lines", n)
	}
	r.limit.SetBurst(2000)
	r.limit.SetLimit(1e9)
	time.Sleep(time.Millisecond)
	r.Log("refused")
	if !strings.Contains(log.String(), "alsoRefused=") {
		t.Errorf("what was left out is not told:\n%s", &log)
	}
}

func TestRecover(t *testing.T) {
	var log bytes.Buffer
	to := slog.New(slog.NewTextHandler(&log, nil))
	_, err := RecoverUnary(to)(context.Background(), nil, info, func(context.Context, any) (any, error) { panic("bug 1") })
	if grpcstatus.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	err = RecoverStream(to)(nil, stream{ctx: context.Background()}, &grpc.StreamServerInfo{FullMethod: "/s/S"}, func(any, grpc.ServerStream) error { panic("bug 2") })
	if grpcstatus.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{`call=M panic="bug 1"`, `call=S panic="bug 2"`, "interceptors_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, &log)
		}
	}
	answer, err := RecoverUnary(to)(context.Background(), 1, info, func(_ context.Context, req any) (any, error) { return req, nil })
	if answer != 1 || err != nil {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestDeadline(t *testing.T) {
	wait := func(ctx context.Context, _ any) (any, error) { <-ctx.Done(); return nil, errors.New("gave up") }
	_, err := Deadline(time.Millisecond)(context.Background(), nil, info, wait)
	if grpcstatus.Code(err) != codes.DeadlineExceeded || grpcstatus.Convert(err).Message() != "gave up" {
		t.Errorf("got %v", err)
	}
	_, err = Deadline(time.Hour)(context.Background(), nil, info, func(context.Context, any) (any, error) { return nil, errors.New("other") })
	if err == nil || err.Error() != "other" {
		t.Errorf("got %v", err)
	}
}
