// Command demo shows paramedic at work on real parts: three compute hosts with libvirtd, virtual machines and an agent on
// each, and tenants and administrators who are called when something happens to what is theirs. Root, Debian; make demo installs what is lacking.
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
	if err := s.story(ctx); err != nil {
		return err
	}
	return s.profile(s.nodes[1])
}
