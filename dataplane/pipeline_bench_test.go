package dataplane

import (
	"testing"
	"time"

	"ringway/packet"
)

// BenchmarkPipeline is the whole way from an RX ring to a TX ring in memory; it
// includes one copy of the frame, which the kernel does in life.
func BenchmarkPipeline(b *testing.B) {
	for _, s := range situations() {
		b.Run(s.name, func(b *testing.B) {
			n := newTestNode(b, s.config())
			w, up, local := loopNode(n, s.uplink, s.trunk)
			b.ReportAllocs()
			for b.Loop() {
				w.round()
			}
			if sent := uint64(up.sent + local.sent); sent != w.count.Received {
				b.Fatalf("received %d, sent %d", w.count.Received, sent)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(w.count.Received), "ns/packet")
		})
	}
}

// BenchmarkStages times each stage over batches of 64, ns/packet.
func BenchmarkStages(b *testing.B) {
	for _, s := range situations() {
		b.Run(s.name, func(b *testing.B) {
			n := newTestNode(b, s.config())
			w, up, local := loopNode(n, s.uplink, s.trunk)
			stages := []struct {
				name string
				run  func(*packet.Batch)
				time time.Duration
			}{
				{name: "parse", run: w.parse}, {name: "decap", run: w.decap}, {name: "validate", run: w.validate},
				{name: "steer", run: w.steer}, {name: "reassemble", run: w.reassemble}, {name: "track", run: w.track},
				{name: "decide", run: w.decide}, {name: "translate", run: w.translate}, {name: "route", run: w.route}, {name: "encap", run: w.encap},
				{name: "transmit", run: w.transmit},
			}
			q := &w.rx[0]
			if len(s.trunk) > 0 {
				q = &w.rx[1]
			}
			w.snap = n.core.snapshot.Load()
			packets := 0
			for b.Loop() {
				w.batch.N = w.take(q)
				packets += w.batch.N
				for i := range stages {
					start := time.Now()
					stages[i].run(&w.batch)
					stages[i].time += time.Since(start)
				}
				w.flush()
			}
			if up.sent+local.sent != packets {
				b.Fatalf("received %d, sent %d", packets, up.sent+local.sent)
			}
			for i := range stages {
				b.ReportMetric(float64(stages[i].time.Nanoseconds())/float64(packets), stages[i].name+"-ns/packet")
			}
		})
	}
}
