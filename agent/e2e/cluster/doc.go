// Package cluster proves from outside what many agents do together: twenty of the real binary, each in a namespace of its
// own, on one switch that can be parted, made lossy and cut. No libvirtd: links make the faults.
//
// The tests need root and what make deps installs, and say so when it is lacking.
package cluster
