package api

import (
	"context"
	"slices"

	"github.com/paramedic-ha/paramedic/agent/access"
	"github.com/paramedic-ha/paramedic/notify"
)

// identity is who makes a request. The zero one is nobody.
type identity struct {
	name     string // of the user at the other end of the Unix socket, or as the configuration names a token or certificate
	role     notify.Role
	projects []string // a consumer's
}

func (i identity) admin() bool { return i.role == notify.RoleAdmin }

// owns reports whether what belongs to a project is the caller's to see: everything is an administrator's.
func (i identity) owns(project string) bool {
	return i.admin() || i.role == notify.RoleConsumer && project != "" && slices.Contains(i.projects, project)
}

// ownerName is what notify.Subscription.Owner says of a subscription that the caller makes.
func (i identity) ownerName() string {
	if i.admin() {
		return ""
	}
	return i.name
}

type identityKey struct{}

func withIdentity(ctx context.Context, i identity) context.Context {
	return context.WithValue(ctx, identityKey{}, i)
}

// identityOf is who makes the request whose context this is; nobody when that was not found out.
func identityOf(ctx context.Context) identity {
	i, _ := ctx.Value(identityKey{}).(identity)
	return i
}

// callers are the roles that may call a route besides administrators, who may call each.
type callers uint8

const (
	consumers callers = 1 << iota
	monitors
	anybody // without saying who it is

	known = consumers | monitors // whoever says who it is
)

// admits reports whether an identity is among the callers of a route.
func (c callers) admits(i identity) bool {
	switch {
	case i.admin(), c&anybody != 0:
		return true
	case i.role == notify.RoleConsumer:
		return c&consumers != 0
	case i.role == access.RoleMonitor:
		return c&monitors != 0
	}
	return false
}
