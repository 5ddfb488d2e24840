package nic

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Without CAP_NET_ADMIN a buffer is ample as far as net.core.rmem_max goes, and said to be less beyond.
func TestABufferThatTheHostAllowsTakesNoRight(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		t.Fatal(err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread without the right ends with this goroutine
		done <- func() error {
			if err := giveUp(unix.CAP_NET_ADMIN); err != nil {
				return err
			}
			for bytes, want := range map[int]bool{most / 2: true, most: true, most + 4096: false} {
				socket, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
				if err != nil {
					return err
				}
				ample, err := size(socket, bytes)
				socket.Close()
				if err != nil || ample != want {
					t.Errorf("%d bytes, %d allowed: ample %t, %v; want %t", bytes, most, ample, err, want)
				}
			}
			return nil
		}()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// giveUp takes a capability from this thread.
func giveUp(capability int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the thread's capabilities: %w", err)
	}
	data[capability/32].Effective &^= 1 << (capability % 32)
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("give up capability %d: %w", capability, err)
	}
	return nil
}
