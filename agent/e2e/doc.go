// Package e2e proves the agent from outside: the real binary, real links, a real libvirtd with real qemu domains, real
// consumers over HTTP. Package lab builds the host that all tests share; each test runs an agent of its own in it.
//
// The tests need root and what make deps installs, and say so when it is lacking.
package e2e
