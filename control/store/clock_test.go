package store

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringway/control/store/storetest"
)

// stepOfClock is added to Go's package time: the wall clock of a process is off by
// what a file of its own says, in seconds, and may so be stepped while it runs. (A
// machine has one wall clock for all that runs on it.) Timers read the clock on the
// scheduler's stack, so it allocates nothing and does without entersyscall.
const stepOfClock = `package time

import (
	"syscall"
	"unsafe"
)

var stepFile = stepFileOf(syscall.Getpid())

func stepFileOf(pid int) []byte {
	dir, _ := syscall.Getenv("CLOCK_STEPS")
	return append([]byte(dir), "/"+decimal(pid)+"\x00"...)
}

func decimal(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return decimal(n/10) + string(rune('0'+n%10))
}

func stepOfClock() int64 {
	if len(stepFile) == 0 {
		return 0
	}
	fd, _, errno := syscall.RawSyscall(syscall.SYS_OPEN, uintptr(unsafe.Pointer(&stepFile[0])), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return 0
	}
	var text [32]byte
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&text[0])), uintptr(len(text)))
	syscall.RawSyscall(syscall.SYS_CLOSE, fd, 0, 0)
	if errno != 0 || n < 2 {
		return 0
	}
	var step int64
	for _, digit := range text[1:n] {
		step = step*10 + int64(digit-'0')
	}
	if text[0] == '-' {
		return -step
	}
	return step
}
`

// buildStepped builds this test and etcd with a clock that can be stepped.
func buildStepped(t *testing.T) (test, etcd string) {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	std := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	source, err := os.ReadFile(filepath.Join(std, "time.go"))
	if err != nil {
		t.Fatal(err)
	}
	const now = "sec, nsec, mono := runtimeNow()\n"
	if n := strings.Count(string(source), now); n != 1 {
		t.Fatalf("package time reads the clock in %d places, and this test knows of one: look at Now", n)
	}
	files := map[string]string{
		"time.go":        strings.Replace(string(source), now, now+"\tsec += stepOfClock()\n", 1),
		"stepofclock.go": stepOfClock,
	}
	overlay := map[string]map[string]string{"Replace": {}}
	for name, text := range files {
		overlay["Replace"][filepath.Join(std, name)] = write(t, filepath.Join(dir, name), text)
	}
	encoded, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	with := "-overlay=" + write(t, filepath.Join(dir, "overlay.json"), string(encoded))
	test, etcd = filepath.Join(dir, "store.test"), filepath.Join(dir, "etcd")
	for _, args := range [][]string{
		{"test", "-c", with, "-o", test, "ringway/control/store"},
		{"build", with, "-o", etcd, "go.etcd.io/etcd/server/v3"},
	} {
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	return test, etcd
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestClockSteps: the wall clocks of a controller and of etcd's members are stepped
// under load, by hours and years, forwards and backwards, apart from each other.
// Nothing is lost, nothing stands still, no lease ends.
func TestClockSteps(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the standard library anew, which takes a minute or two")
	}
	test, etcd := buildStepped(t)
	steps := t.TempDir()
	t.Setenv("CLOCK_STEPS", steps)
	step := func(pid int, by time.Duration) {
		t.Helper()
		text := write(t, filepath.Join(steps, "new"), fmt.Sprintf("%+d", int64(by.Seconds())))
		if err := os.Rename(text, filepath.Join(steps, fmt.Sprint(pid))); err != nil {
			t.Fatal(err)
		}
	}
	m, err := storetest.Start(etcd, t.TempDir(), 3)
	t.Cleanup(m.Stop)
	if err != nil {
		t.Fatal(err)
	}
	observer := open(t, memberOptions(t, m))
	c := startClockProcess(t, test, m.Endpoints)
	becomes(t, observer, "clock", "connected")
	const year = 365 * 24 * time.Hour
	for _, by := range []time.Duration{time.Hour, -time.Hour, 10 * year, -10 * year, 0} {
		step(c.cmd.Process.Pid, by)
		moves(t, observer)
		for i := range 3 {
			step(m.PID(i), by)
			moves(t, observer)
		}
		if got := saidOf(t, observer, "clock"); got != "connected" {
			t.Errorf("after a step by %s, %q is said of the node", by, got)
		}
		if got := c.ask("time"); !strings.HasPrefix(got, time.Now().Add(by).Format("2006-01-02T15")) && by.Abs() > time.Hour {
			t.Errorf("the controller has %s after a step by %s", got, by)
		}
	}
	time.Sleep(2 * clockTTL) // for a lease that a step had ended
	if got := saidOf(t, observer, "clock"); got != "connected" {
		t.Errorf("at the end, %q is said of the node", got)
	}
	if got := c.ask("end"); got != "PASS" {
		t.Error(got)
	}
}

// clockTTL is the lease of the controller in TestClockSteps.
const clockTTL = 3 * time.Second

// moves waits until the controller under load made some versions.
func moves(t *testing.T, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.WaitVersion(ctx, s.View().Version()+20); err != nil {
		t.Fatal(err)
	}
}

// clockProcess is a controller under load in a process of its own.
type clockProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

func startClockProcess(t *testing.T, test string, endpoints []string) *clockProcess {
	t.Helper()
	cmd := exec.Command(test, "-test.run=^TestClockProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "CLOCK_ENDPOINTS="+strings.Join(endpoints, ","))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended, if all went well
		_ = cmd.Wait()
	})
	return &clockProcess{cmd, in, bufio.NewScanner(out)}
}

// ask returns the answer to a line.
func (c *clockProcess) ask(line string) string {
	fmt.Fprintln(c.in, line)
	var said []string
	for c.out.Scan() {
		if answer, is := strings.CutPrefix(c.out.Text(), "SAYS "); is {
			return answer
		}
		said = append(said, c.out.Text())
	}
	return "it ended: " + strings.Join(said, "\n")
}

// TestClockProcess is the process of TestClockSteps.
func TestClockProcess(t *testing.T) {
	endpoints := os.Getenv("CLOCK_ENDPOINTS")
	if endpoints == "" {
		t.Skip("runs in a process of its own, for TestClockSteps")
	}
	s := open(t, Options{Endpoints: strings.Split(endpoints, ","), Decode: number, Log: testLog(t), statusTTL: clockTTL})
	if err := s.SetStatus(t.Context(), "clock", []byte("connected")); err != nil {
		t.Fatal(err)
	}
	l := startLoad(t, s)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		if in.Text() == "time" {
			fmt.Printf("\nSAYS %s\n", time.Now().Format(time.RFC3339))
			continue
		}
		l.done()
		if n := l.no.Load(); n > 0 {
			t.Errorf("%d updates were refused", n)
		}
		if err := s.Health(); err != nil {
			t.Error(err)
		}
		fmt.Printf("\nSAYS %s\n", map[bool]string{true: "FAIL", false: "PASS"}[t.Failed()])
		return
	}
}
