// Package hostloss proves from outside what becomes known of hosts that can't speak for themselves: real agents, each in
// namespaces of its own, are cut off, frozen, killed, parted and kept from the processor, and consumers are told, or not.
//
// Like package e2e it needs root and what make deps installs.
package hostloss
