package lab

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTimeout = 20 * time.Second // until it answers
	stopTimeout  = 10 * time.Second // from the signal to its end
)

// daemon is a process of the lab that outlives the caller, and that a later one
// finds by its files.
type daemon struct {
	what    string // for people, as in "the agent of node1"
	config  string // path of its configuration, which its command line names
	logFile string
	pidFile string
}

// start starts it in a process group of its own. The channel says how it ended,
// should it end while the caller lives.
func (d daemon) start(cmd *exec.Cmd) (ended <-chan error, err error) {
	if pid, err := d.pid(); err != nil || pid != 0 {
		return nil, errors.Join(err, fmt.Errorf("%s runs already as process %d", d.what, pid))
	}
	log, err := os.OpenFile(d.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", d.what, err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", d.what, err)
	}
	if err := writeFile(d.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)+"\n")); err != nil {
		return nil, errors.Join(err, cmd.Process.Kill())
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }() // reaps it, should the caller live longer
	return done, nil
}

// waitReady waits until it takes connections, unless it has ended.
func (d daemon) waitReady(ended <-chan error, dial func() (net.Conn, error)) error {
	deadline := time.After(startTimeout)
	for {
		if c, err := dial(); err == nil {
			return c.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("%s ended at start: %s: %w", d.what, d.lastLog(), cmp.Or(err, errEndedCleanly))
		case <-deadline:
			return fmt.Errorf("%s does not answer after %s: %s", d.what, startTimeout, d.lastLog())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// lastLog is the last line that it wrote.
func (d daemon) lastLog() string {
	data, err := os.ReadFile(d.logFile)
	if err != nil {
		return err.Error()
	}
	return lastLine(data)
}

// end sends a signal and waits until it is gone. It is done if none runs.
func (d daemon) end(signal unix.Signal) error {
	pid, err := d.pid()
	if err != nil || pid == 0 {
		return err
	}
	// A descriptor of the process: its number cannot pass to another one, and
	// the end of a process that is not our child can be waited for.
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s, process %d: %w", d.what, pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end %s, process %d: %w", d.what, pid, err)
	}
	if err := waitPidfd(fd, stopTimeout); err != nil {
		return fmt.Errorf("%s, process %d: %w", d.what, pid, err)
	}
	return nil
}

func waitPidfd(fd int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("does not end within %s", timeout)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for its end: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
}

// pid is the process; 0: none runs.
func (d daemon) pid() (int, error) {
	data, err := os.ReadFile(d.pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", d.what, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", d.what, err)
	}
	// The number may have passed to another process: ours names its configuration.
	// A process that has ended has no command line.
	command, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !strings.Contains(string(command), d.config) {
		return 0, nil
	}
	return pid, nil
}
