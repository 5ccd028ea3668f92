package controller

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// victimEnv names the configuration file of a controller that the test program is
// to be instead of a test: a process that can be killed.
const victimEnv = "RINGWAY_TEST_CONTROLLER"

func runVictim() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := LoadConfig(os.Getenv(victimEnv), nil)
	if err == nil {
		err = Run(ctx, cfg, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// process starts a controller of its own process.
func (s *site) process(cfg Config) *exec.Cmd {
	s.t.Helper()
	c := s.command(cfg)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { kill(c) })
	return c
}

// command is to become a controller's process.
func (s *site) command(cfg Config) *exec.Cmd {
	s.t.Helper()
	path := s.path(cfg.Name + ".yaml")
	f, err := os.Create(path)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := WriteConfig(f, cfg); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), victimEnv+"="+path)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return c
}

// kill ends a process without a warning.
func kill(c *exec.Cmd) {
	if c.ProcessState == nil {
		_ = c.Process.Kill() // it may have ended by itself
		_ = c.Wait()         // and was killed, so that is an error
	}
}

// waitUp waits until a controller answers.
func (s *site) waitUp(c *testController) {
	s.t.Helper()
	eventually(s.t, 20*time.Second, "controller "+c.cfg.Name, func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
		defer cancel()
		_, err := c.client.Status(ctx)
		return err
	})
}
