package chain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"ringway/bench/thread"
)

// stopPatience is how long a process may take to end by SIGTERM.
const stopPatience = 3 * time.Second

// Process is a program running in a namespace. It dies with the bench.
type Process struct {
	cmd  *exec.Cmd
	in   io.Closer // its end would be the end of a program that waits for a key
	out  output
	done chan struct{}
	err  error
}

// Start runs cmd in the network namespace, with a sysfs and a bpffs of its own
// that vanish with it. Its standard input stays open and empty, its output is
// kept.
func (n *Namespace) Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	in, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p.in = in
	started := make(chan error, 1)
	// The parent death signal comes when the *thread* that forked ends, so that
	// thread waits for the process.
	thread.Go(func() {
		defer close(p.done)
		err := n.enterWithMounts()
		if err == nil {
			err = p.cmd.Start()
		}
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
	})
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", cmd.Path, err), in.Close())
	}
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pause stops the process from running, Resume lets it go on.
func (p *Process) Pause() error { return p.signal(unix.SIGSTOP) }

// Resume undoes Pause.
func (p *Process) Resume() error { return p.signal(unix.SIGCONT) }

func (p *Process) signal(s unix.Signal) error {
	if err := unix.Kill(-p.cmd.Process.Pid, s); err != nil {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// Stop ends the process and what it started, by SIGTERM and then by SIGKILL.
func (p *Process) Stop() error {
	if p.ended(0) {
		return nil
	}
	err := errors.Join(p.signal(unix.SIGTERM), p.signal(unix.SIGCONT))
	if p.ended(stopPatience) {
		return nil
	}
	err = errors.Join(err, p.signal(unix.SIGKILL))
	<-p.done
	return err
}

func (p *Process) ended(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// Output is the last lines that the process wrote.
func (p *Process) Output() string { return p.out.tail() }

// output keeps the end of what a process writes, from two goroutines of exec.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

const keptOutput = 8 << 10

// Write never fails and never blocks on anything but the lock.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(b)
	if extra := o.buf.Len() - keptOutput; extra > 0 {
		o.buf.Next(extra)
	}
	return len(b), nil
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.TrimSpace(o.buf.String())
}
