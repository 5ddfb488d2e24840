// Package hardware is the test of what only a whole machine has: an emulated compute host with a kernel of its own whose
// hardware fails, the real binary and real domains inside, two more hosts and a consumer outside.
package hardware
