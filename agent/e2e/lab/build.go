package lab

import (
	"fmt"
	"os"
	"os/exec"
)

// goBuild builds the program of the module that dir lies in, static, as make build does.
func goBuild(dir, out string) error {
	build := exec.Command("go", "build", "-trimpath", "-o", out, "github.com/paramedic-ha/paramedic")
	build.Dir = dir
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, msg)
	}
	return nil
}
