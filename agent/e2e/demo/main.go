// Command demo shows paramedic at work on real parts: a compute host with libvirtd and four virtual machines, and two
// tenants who are called when something happens to theirs. Root, Debian; make demo installs what is lacking.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	began := time.Now()
	s, err := build(out)
	if s != nil {
		defer func() {
			err = errors.Join(err, s.lab.Close())
			if err == nil {
				fmt.Fprintf(out, "\nNamespaces, links, machines and files are gone again. %.0f s.\n", time.Since(began).Seconds())
			}
		}()
	}
	if err != nil {
		return err
	}
	for _, scene := range s.scenes() {
		if err := s.play(ctx, scene); err != nil {
			return fmt.Errorf("%s: %w", scene.title, err)
		}
	}
	return s.profile()
}
