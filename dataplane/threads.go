package dataplane

import (
	"context"
	"errors"
	"sync"
	"time"
)

// startWorkers starts the threads and waits until each has its scheduling.
func (d *Dataplane) startWorkers() error {
	if len(d.cfg.CPUs) > 0 && len(d.cfg.CPUs) < d.cfg.Workers {
		d.log.Warn("cpus: fewer CPUs than workers: some share one", "cpus", d.cfg.CPUs, "workers", d.cfg.Workers)
	}
	var started sync.WaitGroup
	for i, w := range d.core.workers {
		started.Add(1)
		go w.run(d.threadConfig(i), &started)
		d.running++
	}
	started.Wait()
	d.log.Info("dataplane started", "workers", len(d.core.workers), "uplinks", len(d.uplinks), "memory", d.memory)
	return nil
}

func (d *Dataplane) threadConfig(worker int) threadConfig {
	c := threadConfig{fifo: d.cfg.Scheduler == "fifo"}
	if n := len(d.cfg.CPUs); n > 0 {
		c.cpus = []int{d.cfg.CPUs[worker%n]}
	}
	return c
}

func (d *Dataplane) stopWorkers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var errs []error
	for _, w := range d.core.workers[:d.running] {
		errs = append(errs, w.shutDown(ctx))
	}
	return errors.Join(errs...)
}
