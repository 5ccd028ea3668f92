package store

import (
	"context"
	"log/slog"
	"runtime"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newZap returns a logger for etcd that passes on to log what level lets through.
// What is fatal to etcd ends the goroutine that says so, and never the process:
// fatal is told and decides.
func newZap(log *slog.Logger, level zapcore.LevelEnabler, fatal func(reason string)) *zap.Logger {
	hook := stopHook{fatal}
	return zap.New(&slogCore{log, level}, zap.WithFatalHook(hook), zap.WithPanicHook(hook))
}

type stopHook struct{ fatal func(string) }

func (h stopHook) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	reason := entry.Message
	for _, field := range fields {
		if err, is := field.Interface.(error); is && field.Type == zapcore.ErrorType {
			reason += ": " + err.Error()
		}
	}
	h.fatal(reason)
	runtime.Goexit()
}

// slogCore is a zapcore.Core that writes to a slog.Logger.
type slogCore struct {
	log   *slog.Logger
	level zapcore.LevelEnabler
}

func (c *slogCore) Enabled(level zapcore.Level) bool { return c.level.Enabled(level) }

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{c.log.With(attributes(fields)...), c.level}
}

func (c *slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) {
		return checked.AddCore(entry, c)
	}
	return checked
}

func (c *slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	level := slog.LevelWarn
	if entry.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.Log(context.Background(), level, "etcd: "+entry.Message, attributes(fields)...)
	return nil
}

func (c *slogCore) Sync() error { return nil }

func attributes(fields []zapcore.Field) []any {
	encoder := zapcore.NewMapObjectEncoder()
	var attributes []any
	for _, field := range fields {
		field.AddTo(encoder)
		if value, found := encoder.Fields[field.Key]; found {
			attributes = append(attributes, field.Key, value)
		}
	}
	return attributes
}
