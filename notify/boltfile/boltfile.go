// Package boltfile makes the files of bbolt safe to use when they may be damaged: it checks one before bbolt opens it, turns
// what bbolt does about damage into an error, and sets a damaged file aside.
package boltfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"
)

// ErrDamaged marks what makes a file be set aside.
var ErrDamaged = errors.New("the file is damaged")

// Guard runs f where a panic or a fault of the memory map becomes ErrDamaged. The goroutine keeps SetPanicOnFault,
// which is per goroutine, from leaking.
func Guard(f func() error) (err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("%w: %v", ErrDamaged, r)
			}
		}()
		debug.SetPanicOnFault(true)
		err = f()
	}()
	<-done
	return err
}

// SetAside renames a damaged file and forgets all but the newest keep of those.
func SetAside(path string, now time.Time, keep int) error {
	if err := os.Rename(path, path+".bad-"+now.UTC().Format("20060102T150405.000000000")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	bad, err := filepath.Glob(path + ".bad-*")
	if err != nil {
		return err
	}
	slices.Sort(bad)
	for _, old := range bad[:max(0, len(bad)-keep)] {
		if err := os.Remove(old); err != nil {
			return err
		}
	}
	return nil
}
