package store

import (
	"fmt"
	"log/slog"
	"testing"
)

// BenchmarkUpdate changes one of 100 000 items, as many callers at once as GOMAXPROCS.
func BenchmarkUpdate(b *testing.B) {
	s, err := Open(b.Context(), Options{Embedded: &Embedded{DataDir: b.TempDir(), UnsafeNoFsync: true}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	value := make([]byte, 300)
	for i := 0; i < 100_000; i += 1000 {
		_, err := s.Update(b.Context(), func(tx Tx) error {
			for n := i; n < i+1000; n++ {
				if err := tx.Put(Key{Kind: "Endpoint", Namespace: "default", Name: fmt.Sprint("pod-", n)}, value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	before := s.View().Version()
	b.ResetTimer()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			_, err := s.Update(b.Context(), func(tx Tx) error {
				key := Key{Kind: "Endpoint", Namespace: "default", Name: fmt.Sprint("pod-", n)}
				item, _ := tx.Get(key)
				return tx.Put(key, fmt.Append(nil, item.Revision, n))
			})
			if err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/float64(max(1, s.View().Version()-before)), "updates/version")
}
