package lab

import (
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// etcResolvConf is what a resolver reads.
const etcResolvConf = "/etc/resolv.conf"

// Inside is Command with the host's own /etc/resolv.conf, as a container runtime
// would give it: mounted over the machine's in a mount namespace of the command's
// own.
func (l *Lab) Inside(host, name string, args ...string) *exec.Cmd {
	const script = `mount --bind "$0" ` + etcResolvConf + ` && exec "$@"`
	inner := []string{"--mount", "--propagation", "slave", "--", "sh", "-c", script, l.hostFile(host, "resolv.conf"), name}
	return l.Command(host, "unshare", append(inner, args...)...)
}

// EnterFiles gives the calling thread the host's own /etc/resolv.conf, in a mount
// namespace of its own. The thread must be locked, and not be used for anything
// else afterwards.
func (l *Lab) EnterFiles(host string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("leave the mount namespace: %w", os.NewSyscallError("unshare", err))
	}
	// Slave: what is unmounted outside later is so in here, too.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("keep mounts to this command: %w", os.NewSyscallError("mount", err))
	}
	if err := unix.Mount(l.hostFile(host, "resolv.conf"), etcResolvConf, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount resolv.conf of %s: %w", host, os.NewSyscallError("mount", err))
	}
	return nil
}

// writeResolvConf makes a host's directory with its resolv.conf.
func (l *Lab) writeResolvConf(host string) error {
	if err := os.MkdirAll(l.hostDir(host), 0o755); err != nil {
		return fmt.Errorf("make a directory for %s: %w", host, err)
	}
	_, pod := l.pod(host)
	return writeFile(l.hostFile(host, "resolv.conf"), []byte(resolvConf(host, pod)))
}
