// Package southbound takes the events of other monitors. It reads the shapes that they come in (decode.go), finds which
// condition of which resource of this host each is about (mapping.go), and judges each alone: accepted, a duplicate of
// one that is known, or refused with a reason and a remedy (desk.go).
//
// The shapes are those of OPNFV Doctor's fault event interface, as its requirements write it and as its monitors send it,
// and the webhook of Alertmanager, version 4.
package southbound
