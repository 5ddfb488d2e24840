package hw

import (
	"fmt"
	"os"
)

// Replace writes a small file so that a crash of the process leaves the old or the new one. It does not wait for the disk:
// what sources keep is of one boot, or can be had again.
func Replace(path string, content []byte) error {
	next := path + ".new"
	if err := os.WriteFile(next, content, 0o600); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	if err := os.Rename(next, path); err != nil {
		return fmt.Errorf("keep: %w", err)
	}
	return nil
}

// Boot is the id of this run of the kernel (proc_sys_kernel(5), random/boot_id).
func (r Root) Boot() (string, error) {
	return ReadAttr(r.ProcPath("sys", "kernel", "random", "boot_id"))
}
