package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Embedded is an etcd of one member inside the controller. The controller itself
// reaches it in memory; it listens nowhere unless Listen says so.
type Embedded struct {
	// DataDir belongs to this etcd alone. It is made with mode 0700.
	DataDir string
	// Listen is a URL at which etcdctl can reach it: unix:///PATH, http on a
	// loopback address, or https with ListenTLS. Empty: none.
	Listen string
	// ListenTLS are the server's files for https. Clients need a certificate of its
	// CA.
	ListenTLS TLSFiles
	// QuotaBytes is how large the database grows at most. 0: 2 GiB.
	QuotaBytes int64
	// UnsafeNoFsync loses the newest versions when the machine goes down. For tests
	// and measurements.
	UnsafeNoFsync bool
}

// TLSFiles are paths of PEM files.
type TLSFiles struct{ CA, Cert, Key string }

const (
	defaultQuota = 2 << 30
	// keepHistory is how long old revisions are kept: a watch that is away for less
	// goes on where it was.
	keepHistory = "5m"
	// defragAbove is how much a defragmentation at the start has to free.
	defragAbove = 64 // MiB
	// stopAfter is how long the embedded etcd has to stop, stopFailedAfter how long
	// one that failed has: it may hold locks for ever.
	stopAfter       = 10 * time.Second
	stopFailedAfter = time.Second
)

// ErrEmbeddedFailed: the embedded etcd found that it cannot go on. What was
// committed is on disk.
var ErrEmbeddedFailed = errors.New("the embedded etcd stopped")

// embedded is a running etcd.
type embedded struct {
	dir    string
	lock   *os.File
	etcd   *embed.Etcd
	client *clientv3.Client

	level zap.AtomicLevel // of what etcd logs

	once    sync.Once
	failure error
	stopped chan struct{} // closed when failure is set
}

func startEmbedded(ctx context.Context, config Embedded, options Options) (*embedded, error) {
	if config.DataDir == "" {
		return nil, errors.New("etcd data directory: is empty; give the embedded etcd a directory of its own")
	}
	if err := os.MkdirAll(config.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the etcd data directory: %w", err)
	}
	if err := os.Chmod(config.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("close the etcd data directory to others: %w", err)
	}
	lock, err := lock(config.DataDir)
	if err != nil {
		return nil, err
	}
	e := &embedded{dir: config.DataDir, lock: lock, stopped: make(chan struct{})}
	e.level = zap.NewAtomicLevelAt(zapcore.ErrorLevel) // at the start it warns of settings that are meant so
	if err := e.start(ctx, config, options); err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded etcd in %s: %w", config.DataDir, err), e.stop())
	}
	return e, nil
}

func (e *embedded) start(ctx context.Context, config Embedded, options Options) error {
	settings, err := e.settings(config, options)
	if err != nil {
		return err
	}
	if e.etcd, err = e.begin(settings); err != nil {
		return err
	}
	for _, listen := range settings.ListenClientUrls {
		if listen.Scheme != "unix" {
			continue
		}
		if err := os.Chmod(listen.Path, 0o600); err != nil {
			return fmt.Errorf("close its socket to others: %w", err)
		}
	}
	e.client = v3client.New(e.etcd.Server)
	select {
	case <-e.etcd.Server.ReadyNotify():
	case <-e.stopped:
		return e.failed()
	case <-ctx.Done():
		return fmt.Errorf("wait until it is ready: %w", ctx.Err())
	}
	e.level.SetLevel(zapcore.WarnLevel)
	return e.disarm(ctx, settings.QuotaBackendBytes, options.Log)
}

// begin starts etcd from a goroutine that the log's hook may end.
func (e *embedded) begin(settings *embed.Config) (etcd *embed.Etcd, err error) {
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		etcd, err = embed.StartEtcd(settings)
	}()
	<-begun
	return etcd, errors.Join(err, e.failed())
}

func (e *embedded) settings(config Embedded, options Options) (*embed.Config, error) {
	settings := embed.NewConfig()
	settings.Name = "ringway"
	settings.Dir = config.DataDir
	settings.InitialCluster = settings.InitialClusterFromName(settings.Name)
	settings.ListenPeerUrls, settings.ListenClientUrls, settings.AdvertiseClientUrls = nil, nil, nil
	settings.EnableGRPCGateway = false
	settings.AutoCompactionMode = embed.CompactorModePeriodic
	settings.AutoCompactionRetention = keepHistory
	settings.BootstrapDefragThresholdMegabytes = defragAbove
	settings.MaxTxnOps = uint(options.MaxOps) + 8
	settings.MaxRequestBytes = uint(options.MaxBytes) + 1<<20
	settings.QuotaBackendBytes = config.QuotaBytes
	if config.QuotaBytes == 0 {
		settings.QuotaBackendBytes = defaultQuota
	}
	settings.UnsafeNoFsync = config.UnsafeNoFsync
	settings.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZap(options.Log, e.level, func(reason string) {
		options.Log.Error("the embedded etcd stops", "reason", reason)
		e.fail(errors.New(reason))
	}))
	if config.Listen == "" {
		return settings, nil
	}
	listen, err := checkListen(config.Listen, config.ListenTLS)
	if err != nil {
		return nil, err
	}
	settings.ListenClientUrls, settings.AdvertiseClientUrls = []url.URL{*listen}, []url.URL{*listen}
	if config.ListenTLS != (TLSFiles{}) {
		settings.ClientTLSInfo = transport.TLSInfo{
			CertFile: config.ListenTLS.Cert, KeyFile: config.ListenTLS.Key,
			TrustedCAFile: config.ListenTLS.CA, ClientCertAuth: true,
		}
		settings.TlsMinVersion = "TLS1.3"
	}
	return settings, nil
}

// fail keeps the first reason.
func (e *embedded) fail(reason error) {
	e.once.Do(func() {
		e.failure = fmt.Errorf("%w: %w; look after the disk that %s is on, and start the controller again", ErrEmbeddedFailed, reason, e.dir)
		close(e.stopped)
	})
}

// failed is why etcd does not go on; nil: it does.
func (e *embedded) failed() error {
	select {
	case <-e.stopped:
		return e.failure
	default:
		return nil
	}
}

// disarm takes away the alarm of a full database once compacting and
// defragmenting have made room, or the quota was raised.
func (e *embedded) disarm(ctx context.Context, quota int64, log *slog.Logger) error {
	alarms, err := e.client.AlarmList(ctx)
	if err != nil {
		return fmt.Errorf("read its alarms: %w", err)
	}
	full := func(a *etcdserverpb.AlarmMember) bool { return a.Alarm == etcdserverpb.AlarmType_NOSPACE }
	for _, alarm := range alarms.Alarms {
		if !full(alarm) {
			continue
		}
		size, err := e.reclaim(ctx)
		if err != nil {
			return err
		}
		if size > quota*3/4 {
			log.Error("the embedded etcd's database is full, and compacting made no room: raise its quota", "bytes", size, "quota", quota)
			return nil
		}
		if _, err := e.client.AlarmDisarm(ctx, (*clientv3.AlarmMember)(alarm)); err != nil {
			return fmt.Errorf("disarm the alarm of a full database: %w", err)
		}
		log.Info("the embedded etcd's database was full and has room again", "bytes", size, "quota", quota)
	}
	return nil
}

// reclaim compacts and defragments, and returns the size after.
func (e *embedded) reclaim(ctx context.Context) (int64, error) {
	head, err := e.client.Get(ctx, versionKey)
	if err != nil {
		return 0, fmt.Errorf("read its revision: %w", err)
	}
	_, err = e.client.Compact(ctx, head.Header.Revision, clientv3.WithCompactPhysical())
	if err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return 0, fmt.Errorf("compact: %w", err)
	}
	// The client in memory cannot: v3client gives it no health notifier.
	if err := e.etcd.Server.Backend().Defrag(); err != nil {
		return 0, fmt.Errorf("defragment: %w", err)
	}
	return e.etcd.Server.Backend().Size(), nil
}

// stop ends etcd. If it does not end in time, the directory stays locked until the
// process ends.
func (e *embedded) stop() error {
	if e.client != nil {
		e.client.Close()
	}
	if e.etcd == nil {
		return e.lock.Close()
	}
	e.level.SetLevel(zapcore.FatalLevel) // it complains that what it closes is closed
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.etcd.Close()
	}()
	patience := stopAfter
	if e.failed() != nil {
		patience = stopFailedAfter
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-stopped:
		return e.lock.Close()
	case <-timer.C:
		if e.failed() != nil {
			return nil // which was said, with what to do
		}
		return fmt.Errorf("stop the embedded etcd in %s: it did not within %s", e.dir, patience)
	}
}
