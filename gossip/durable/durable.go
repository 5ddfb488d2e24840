// Package durable replaces small files so that a crash leaves the old contents or the new ones.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Unfinished ends the name of a file while it is written. There is one of it at most, whatever was killed how often.
const Unfinished = ".new"

// Replace gives the file at path new contents, mode 0600, on disk when it returns nil. One at a time may write a file.
func Replace(path string, contents []byte) error {
	f, err := os.OpenFile(path+Unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(contents)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Sweep removes what a crash in Replace has left.
func Sweep(path string) error {
	if err := os.Remove(path + Unfinished); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove what a crash has left: %w", err)
	}
	return nil
}
