package asavie

import (
	"testing"

	"ringway/dataplane/port"
	"ringway/dataplane/port/porttest"
)

// memory is a pool as the conformance suite wants it.
type memory struct{ pool *port.Pool }

func (m memory) Pool() *port.Pool { return m.pool }
func (m memory) Close() error     { return nil }

func (m memory) Open(c porttest.Config) (port.Queue, error) {
	return Open(m.pool, Options{Ifindex: c.Ifindex, RingSize: c.Ring, FillDepth: c.FillDepth, Reserve: c.Reserve})
}

func newMemory(frames int) (porttest.Memory, error) {
	const chunk = 2048
	pool, err := port.NewPool(make([]byte, frames*chunk), chunk)
	return memory{pool}, err
}

func TestConformance(t *testing.T) {
	porttest.Run(t, porttest.Driver{NewMemory: newMemory})
}
