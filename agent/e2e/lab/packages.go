package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Made is the one package in dist, where make deb rpm leaves them, that a pattern matches.
func Made(dist, pattern string) (string, error) {
	all, err := filepath.Glob(filepath.Join(dist, pattern))
	if err != nil || len(all) != 1 {
		return "", fmt.Errorf("%d packages are %s/%s: run make deb rpm", len(all), dist, pattern)
	}
	return all[0], nil
}

// Package makes a package, in dir, of what make deb rpm left in the checkout's dist, under another version.
func Package(checkout, packager, version, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute) // the packager may have to be built
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "-C", filepath.Join(checkout, "packaging"), "tool", "nfpm", "package",
		"--config", "nfpm.yaml", "--packager", packager, "--target", dir)
	cmd.Env = append(os.Environ(), "ARCH=amd64", "PACKAGE_VERSION="+version, "SOURCE_DATE_EPOCH=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("make the %s package of version %s: %w: %s", packager, version, err, out)
	}
	return Made(dir, "paramedic*."+packager)
}
