package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// bbolt trusts its file: on a damaged one it panics, faults on its memory map or walks in circles, partly in goroutines
// of its own where nobody can catch it. So the file's structure is read here first, as plain bytes with every bound
// checked: both meta pages, each reachable page once, the order of keys, the freelist. What passes is safe to open.
//
// The layout is bbolt's version 2 (go.etcd.io/bbolt/internal/common: page.go, meta.go, bucket.go), in the byte order of
// the little-endian machines that this runs on.
const (
	boltMagic    = 0xED0CDAED
	boltVersion  = 2
	pageHeader   = 16
	elementSize  = 16
	bucketHeader = 16
	metaSize     = 64
	metaSummed   = 56 // bytes of a meta page that its checksum covers
	maxDepth     = 64
	noFreelist   = ^uint64(0)

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagFreelist = 0x10
	flagBucket   = 0x01 // of a leaf element
)

type file struct {
	r        io.ReaderAt
	pageSize uint64
	pages    uint64 // the high-water mark
	seen     map[uint64]bool
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Check reports ErrDamaged when bbolt must not open the file at path. One that is missing or empty is new.
func Check(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file: remove it", path)
	}
	if info.Size() == 0 {
		return nil
	}
	return check(f, uint64(info.Size()))
}

type boltMeta struct{ pageSize, root, freelist, pages, txid uint64 }

func readMeta(b []byte) (m boltMeta, ok bool) {
	le := binary.LittleEndian
	h := fnv.New64a()
	h.Write(b[:metaSummed])
	if le.Uint32(b) != boltMagic || le.Uint32(b[4:]) != boltVersion || le.Uint64(b[metaSummed:]) != h.Sum64() {
		return m, false
	}
	return boltMeta{uint64(le.Uint32(b[8:])), le.Uint64(b[16:]), le.Uint64(b[32:]), le.Uint64(b[40:]), le.Uint64(b[48:])}, true
}

func check(r io.ReaderAt, size uint64) error {
	var best boltMeta
	found := false
	buf := make([]byte, metaSize)
	consider := func(at int64) {
		if _, err := r.ReadAt(buf, at+pageHeader); err != nil {
			return
		}
		if m, ok := readMeta(buf); ok && (!found || m.txid > best.txid) {
			best, found = m, true
		}
	}
	consider(0)
	if found {
		consider(int64(best.pageSize))
	} else { // the second meta page lies at an unknown page size
		for s := int64(1 << 10); s <= 1<<16; s <<= 1 {
			consider(s)
		}
	}
	switch {
	case !found:
		return damaged("no valid meta page")
	case best.pageSize < 512 || best.pageSize > 1<<16 || best.pageSize&(best.pageSize-1) != 0:
		return damaged("page size %d", best.pageSize)
	case best.pages < 4 || best.pages > size/best.pageSize:
		return damaged("%d pages of %d bytes in a file of %d bytes", best.pages, best.pageSize, size)
	case best.freelist == noFreelist:
		return damaged("it has no freelist")
	}
	f := &file{r: r, pageSize: best.pageSize, pages: best.pages, seen: map[uint64]bool{0: true, 1: true}}
	if err := f.freelist(best.freelist); err != nil {
		return err
	}
	return f.tree(best.root, 0, nil, nil)
}

// page reads a page with its overflow, and takes it as seen.
func (f *file) page(id uint64, flag uint16) (b []byte, count int, err error) {
	if id >= f.pages {
		return nil, 0, damaged("page %d is beyond the end", id)
	}
	head := make([]byte, pageHeader)
	if _, err := f.r.ReadAt(head, int64(id*f.pageSize)); err != nil {
		return nil, 0, damaged("page %d: %v", id, err)
	}
	le := binary.LittleEndian
	overflow, kind := uint64(le.Uint32(head[12:])), le.Uint16(head[8:])
	switch {
	case le.Uint64(head) != id:
		return nil, 0, damaged("page %d says that it is page %d", id, le.Uint64(head))
	case kind == 0 || kind&^flag != 0:
		return nil, 0, damaged("page %d has type %#x", id, kind)
	case overflow >= f.pages-id:
		return nil, 0, damaged("page %d overflows beyond the end", id)
	}
	for p := id; p <= id+overflow; p++ {
		if f.seen[p] {
			return nil, 0, damaged("page %d is used twice", p)
		}
		f.seen[p] = true
	}
	b = make([]byte, (overflow+1)*f.pageSize)
	if _, err := f.r.ReadAt(b, int64(id*f.pageSize)); err != nil {
		return nil, 0, damaged("page %d: %v", id, err)
	}
	return b, int(le.Uint16(head[10:])), nil
}

// freelist takes every free page as seen, so that a page both free and in use is found.
func (f *file) freelist(id uint64) error {
	b, count, err := f.page(id, flagFreelist)
	if err != nil {
		return err
	}
	ids := b[pageHeader:]
	n := uint64(count)
	if count == 0xFFFF { // then the first entry is the count
		n, ids = binary.LittleEndian.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 {
		return damaged("the freelist names %d pages in %d bytes", n, len(ids))
	}
	for i := range n {
		p := binary.LittleEndian.Uint64(ids[i*8:])
		if p >= f.pages || f.seen[p] {
			return damaged("page %d is free and in use, or beyond the end", p)
		}
		f.seen[p] = true
	}
	return nil
}

// tree walks a bucket's pages. Keys lie in [low, high).
func (f *file) tree(id uint64, depth int, low, high []byte) error {
	if depth > maxDepth {
		return damaged("deeper than %d pages", maxDepth)
	}
	b, count, err := f.page(id, flagBranch|flagLeaf)
	if err != nil {
		return err
	}
	return f.elements(b, count, id, depth, low, high)
}

// elements walks what a page, or a bucket within a value, holds.
func (f *file) elements(b []byte, count int, id uint64, depth int, low, high []byte) error {
	le := binary.LittleEndian
	flags := le.Uint16(b[8:])
	if flags != flagBranch && flags != flagLeaf {
		return damaged("page %d has type %#x", id, flags)
	}
	if pageHeader+count*elementSize > len(b) {
		return damaged("page %d holds %d elements in %d bytes", id, count, len(b))
	}
	if flags == flagBranch && count == 0 {
		return damaged("branch page %d is empty", id)
	}
	// slice cuts n bytes that begin at bytes behind element e.
	slice := func(e int, at, n uint64) ([]byte, bool) {
		from := uint64(e) + at
		if at > uint64(len(b)) || n > uint64(len(b)) || from+n > uint64(len(b)) {
			return nil, false
		}
		return b[from : from+n], true
	}
	type child struct {
		page uint64
		key  []byte
	}
	var children []child
	var last []byte
	for i := range count {
		e := pageHeader + i*elementSize
		var key, value []byte
		var ok bool
		if flags == flagBranch { // pos, ksize, pgid
			key, ok = slice(e, uint64(le.Uint32(b[e:])), uint64(le.Uint32(b[e+4:])))
			children = append(children, child{le.Uint64(b[e+8:]), key})
		} else { // flags, pos, ksize, vsize
			pos, ksize, vsize := uint64(le.Uint32(b[e+4:])), uint64(le.Uint32(b[e+8:])), uint64(le.Uint32(b[e+12:]))
			if key, ok = slice(e, pos, ksize); ok {
				value, ok = slice(e, pos+ksize, vsize)
			}
		}
		switch {
		case !ok:
			return damaged("element %d of page %d lies outside", i, id)
		case i > 0 && bytes.Compare(last, key) >= 0, low != nil && bytes.Compare(key, low) < 0, high != nil && bytes.Compare(key, high) >= 0:
			return damaged("element %d of page %d is out of order", i, id)
		}
		last = key
		if flags == flagLeaf && le.Uint32(b[e:])&flagBucket != 0 {
			if err := f.bucket(value, id, depth); err != nil {
				return err
			}
		}
	}
	for i, c := range children {
		next := high
		if i+1 < len(children) {
			next = children[i+1].key
		}
		if err := f.tree(c.page, depth+1, c.key, next); err != nil {
			return err
		}
	}
	return nil
}

// bucket walks a bucket from its header: its own pages, or, when small, the page that follows in the value itself.
func (f *file) bucket(value []byte, id uint64, depth int) error {
	if len(value) < bucketHeader {
		return damaged("a bucket in page %d has no header", id)
	}
	if root := binary.LittleEndian.Uint64(value); root != 0 {
		return f.tree(root, depth+1, nil, nil)
	}
	inline := value[bucketHeader:]
	if len(inline) < pageHeader || depth > maxDepth {
		return damaged("an inline bucket in page %d is cut short", id)
	}
	return f.elements(inline, int(binary.LittleEndian.Uint16(inline[10:])), id, depth+1, nil, nil)
}
