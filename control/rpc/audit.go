package rpc

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
)

const (
	// maxError bounds what a refusal, which may quote the caller, takes.
	maxError = 512

	// Of callers who may not do what they try there are as many lines a second,
	// and at once, so that they cannot fill a disk.
	deniedPerSecond = 1
	deniedBurst     = 100
)

// Particulars says what a request is about and what came of it. answer is nil
// where there is none. What it quotes it clips.
type Particulars func(req, answer any) []slog.Attr

// Audit writes down who changed what: each call that is not reading, when it has
// ended and before the caller has its answer. It goes to the log, and to a file
// if there is one.
type Audit struct {
	log    *slog.Logger
	file   *auditFile // nil: none
	lines  slog.Handler
	now    func() time.Time
	denied *rate.Limiter
}

// OpenAudit appends to the file at path, or makes it (mode 0640); with an empty
// path it only logs.
func OpenAudit(path string, log *slog.Logger) (*Audit, error) {
	a := &Audit{log: log, now: time.Now, denied: rate.NewLimiter(deniedPerSecond, deniedBurst)}
	if path == "" {
		return a, nil
	}
	var err error
	if a.file, err = openAuditFile(path); err != nil {
		return nil, err
	}
	a.lines = slog.NewJSONHandler(a.file, &slog.HandlerOptions{ReplaceAttr: plainLine})
	return a, nil
}

// plainLine leaves out what each line would have the same of.
func plainLine(groups []string, attr slog.Attr) slog.Attr {
	if len(groups) == 0 && (attr.Key == slog.LevelKey || attr.Key == slog.MessageKey) {
		return slog.Attr{}
	}
	return attr
}

// Close closes the file.
func (a *Audit) Close() error {
	if a.file == nil {
		return nil
	}
	return a.file.Close()
}

// Err is why the newest line is not in the file; nil: it is. Calls go on without.
func (a *Audit) Err() error {
	if a.file == nil {
		return nil
	}
	return a.file.Err()
}

// Unary writes down calls that change something.
func (a *Audit) Unary(particulars Particulars) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		answer, err := handle(ctx, req)
		if !Reads(info.FullMethod) {
			a.write(ctx, info.FullMethod, particulars(req, answer), resultOf(err), err)
		}
		return answer, err
	}
}

// Stream does the same for streams, which also get a line when they begin: it may
// be long until they end.
func (a *Audit) Stream(particulars Particulars) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		if Reads(info.FullMethod) {
			return handle(srv, stream)
		}
		watched := &auditedStream{ServerStream: stream, audit: a, method: info.FullMethod, particulars: particulars}
		err := handle(srv, watched)
		a.write(stream.Context(), info.FullMethod, watched.about, resultOf(err), err)
		return err
	}
}

// auditedStream writes the first line once the request is there, which it is only
// for callers who may make it.
type auditedStream struct {
	grpc.ServerStream
	audit       *Audit
	method      string
	particulars Particulars
	begun       bool
	about       []slog.Attr
}

// RecvMsg is called by one goroutine at a time.
func (s *auditedStream) RecvMsg(m any) error {
	err := s.ServerStream.RecvMsg(m)
	if err == nil && !s.begun {
		s.begun = true
		s.about = s.particulars(m, nil)
		s.audit.write(s.Context(), s.method, s.about, "began", nil)
	}
	return err
}

func resultOf(err error) string { return grpcstatus.Code(err).String() }

func (a *Audit) write(ctx context.Context, method string, about []slog.Attr, result string, err error) {
	code := grpcstatus.Code(err)
	if (code == codes.PermissionDenied || code == codes.Unauthenticated) && !a.denied.AllowN(a.now(), 1) {
		return
	}
	a.writeLog(ctx, method, about, result, err)
	if a.file == nil {
		return
	}
	line := slog.NewRecord(a.now().UTC().Truncate(time.Millisecond), slog.LevelInfo, "", 0)
	line.AddAttrs(slog.String("call", name(method)), slog.GroupAttrs("caller", describe(ctx)...))
	if len(about) > 0 {
		line.AddAttrs(slog.GroupAttrs("about", about...))
	}
	line.AddAttrs(slog.String("result", result))
	if err != nil {
		line.AddAttrs(slog.String("error", message(err)))
	}
	if err := a.lines.Handle(ctx, line); err != nil {
		a.log.Error("the audit log lacks a call", "err", err)
	}
}

func (a *Audit) writeLog(ctx context.Context, method string, about []slog.Attr, result string, err error) {
	attrs := append([]slog.Attr{slog.String("call", name(method))}, about...)
	attrs = append(attrs, describe(ctx)...)
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("err", message(err)))
	} else if result == "began" {
		attrs = append(attrs, slog.String("result", result))
	}
	a.log.LogAttrs(ctx, level, "audit", attrs...)
}

func message(err error) string {
	s := grpcstatus.Convert(err).Message()
	if len(s) > maxError {
		s = strings.ToValidUTF8(s[:maxError], "") + "…"
	}
	return s
}
