package boltfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

func FuzzCheck(f *testing.F) {
	path := filepath.Join(f.TempDir(), "small.db")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1024})
	if err != nil {
		f.Fatal(err)
	}
	if err := db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucket([]byte("b"))
		for i := range 40 {
			err = errors.Join(err, b.Put(fmt.Append(nil, "key", i), make([]byte, 50)))
		}
		return err
	}); err != nil {
		f.Fatal(err)
	}
	db.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:16*1024], uint64(3000), byte(1))
	f.Fuzz(func(t *testing.T, b []byte, at uint64, value byte) {
		if len(b) > 0 {
			b[at%uint64(len(b))] = value
		}
		for i := 0; i < 2 && len(b) >= (i+1)*1024; i++ { // let damaged meta pages pass their checksum
			h := fnv.New64a()
			h.Write(b[i*1024+pageHeader:][:metaSummed])
			binary.LittleEndian.PutUint64(b[i*1024+pageHeader+metaSummed:], h.Sum64())
		}
		_ = check(readerAt(b), uint64(len(b)))
	})
}

type readerAt []byte

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(r)) {
		return 0, errors.New("beyond")
	}
	n := copy(p, r[off:])
	if n < len(p) {
		return n, errors.New("short")
	}
	return n, nil
}
