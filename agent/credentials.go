package agent

import (
	"context"
	"fmt"
	"time"
)

// renewPause is how often the files of credentials are read: tokens and certificates are renewed by others, who don't tell us.
const renewPause = 30 * time.Second

// renewCredentials takes new credentials from the files of the configuration until ctx ends.
func (a *Agent) renewCredentials(ctx context.Context) error {
	ticks := time.NewTicker(renewPause)
	defer ticks.Stop()
	said := ""
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks.C:
		}
		problem := ""
		if err := a.renew(); err != nil {
			problem = err.Error()
		}
		if problem != "" && problem != said { // once
			a.log.Warn("new credentials can't be used: those of before stay", "error", problem)
		}
		said = problem
	}
}

// renew reads the files of credentials once.
func (a *Agent) renew() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.mu.Lock()
	old := a.config
	a.mu.Unlock()
	c, changed, err := old.Renewed()
	if err != nil || !changed {
		return err
	}
	if err := a.notifier.SetFile(c.Subscriptions()); err != nil {
		return fmt.Errorf("take over the subscriptions: %w", err)
	}
	if !sameExit(old, c) {
		a.notifier.SetExit(c.Notify.AllowCallbacks, c.Proxy())
	}
	a.mu.Lock()
	a.config = c
	a.mu.Unlock()
	if a.cluster != nil {
		a.cluster.File(a.fileSubscriptions())
	}
	a.log.Info("new credentials are in use")
	return nil
}
