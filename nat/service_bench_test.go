package nat

import (
	"fmt"
	"testing"

	"ringway/packet"
)

// BenchmarkServiceLookup: packets to services at random, and packets to none.
func BenchmarkServiceLookup(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		table := tableOf(n)
		for _, s := range []struct {
			name string
			base uint32
		}{{"service", 0x0a60000a}, {"other", 0x0ac80001}} {
			b.Run(fmt.Sprintf("%d services/%s", n, s.name), func(b *testing.B) {
				b.ReportAllocs()
				var i, found uint32
				for b.Loop() {
					i = i*1664525 + 1013904223
					if table.Lookup(s.base+i>>8%uint32(n), 53, packet.ProtoUDP) != nil {
						found++
					}
				}
				if (found > 0) != (s.name == "service") {
					b.Fatalf("%d found", found)
				}
			})
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{1, 3, 10, 100, 1000} {
		b.Run(fmt.Sprintf("%d backends", n), func(b *testing.B) {
			benchmarkChoose(b, &Frontend{Backends: someBackends(n)}, 1)
		})
	}
	half := &Frontend{Backends: someBackends(100)}
	for i := range 50 {
		quarantine(half.Backends[2*i].Health)
	}
	b.Run("100 backends, half quarantined", func(b *testing.B) { benchmarkChoose(b, half, 1) })
	redirected := &Frontend{Backends: someBackends(3), Redirect: &Redirect{Local: someBackends(1), exempt: []uint32{5, 6}}}
	b.Run("redirected", func(b *testing.B) { benchmarkChoose(b, redirected, 1) })
	b.Run("client is a backend of the redirect", func(b *testing.B) { benchmarkChoose(b, redirected, 6) })
	quarantine(redirected.Redirect.Local[0].Health)
	b.Run("redirected, quarantined", func(b *testing.B) { benchmarkChoose(b, redirected, 1) })
}

func benchmarkChoose(b *testing.B, f *Frontend, client uint32) {
	b.ReportAllocs()
	var hash uint64
	for b.Loop() {
		hash++
		if _, ok := f.Choose(hash, client); !ok {
			b.Fatal("nobody")
		}
	}
}

func BenchmarkHealth(b *testing.B) {
	h := &Health{}
	b.Run("answered", func(b *testing.B) {
		for b.Loop() {
			h.Answered()
		}
	})
	b.Run("every second answered", func(b *testing.B) {
		for b.Loop() {
			h.NoAnswer(1)
			h.Answered()
		}
	})
	if !h.Healthy() {
		b.Fatal("quarantined")
	}
}

// BenchmarkResolve: a cluster of 10 000 services.
func BenchmarkResolve(b *testing.B) {
	services := make([]ServiceSpec, 10_000)
	for i := range services {
		services[i] = ServiceSpec{
			Namespace: "default", Name: fmt.Sprintf("service-%d", i*7919%10_000),
			Address:  fromAddr32(0x0a600001 + uint32(i)),
			Ports:    []ServicePort{{"http", packet.ProtoTCP, 80, 8080}, {"quic", packet.ProtoUDP, 443, 8443}},
			Backends: addresses("10.200.0.3", "10.200.1.4", "10.200.2.5"),
		}
	}
	registry := NewHealthRegistry()
	b.ReportAllocs()
	for b.Loop() {
		if table, _ := Resolve(services, nil, nil, nil, registry, 0); len(table.Frontends()) != 20_000 {
			b.Fatal(len(table.Frontends()))
		}
	}
}
