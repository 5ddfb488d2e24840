package api

import (
	"testing"

	"github.com/paramedic-ha/paramedic/agent/access"
	"github.com/paramedic-ha/paramedic/notify"
)

func TestARouteThatNamesNobodyIsAnAdministratorsOnly(t *testing.T) {
	admin, consumer := identity{name: "ops", role: notify.RoleAdmin}, identity{name: "vnfm", role: notify.RoleConsumer, projects: []string{"red"}}
	monitor := identity{name: "collectd", role: access.RoleMonitor}
	for _, c := range []struct {
		callers                          callers
		nobody, consumer, monitor, admin bool
	}{
		{0, false, false, false, true},
		{consumers, false, true, false, true},
		{monitors, false, false, true, true},
		{consumers | monitors, false, true, true, true},
		{anybody, true, true, true, true},
	} {
		for i, want := range map[*identity]bool{{}: c.nobody, &consumer: c.consumer, &monitor: c.monitor, &admin: c.admin} {
			if got := c.callers.admits(*i); got != want {
				t.Errorf("callers %b: %s (%s): %v", c.callers, i.name, i.role, got)
			}
		}
	}
}

func TestAConsumerOwnsItsProjectsAndAnAdministratorAll(t *testing.T) {
	consumer := identity{name: "vnfm", role: notify.RoleConsumer, projects: []string{"red"}}
	if !consumer.owns("red") || consumer.owns("blue") || consumer.owns("") {
		t.Error("a consumer owns what its projects name, and nothing that has no project")
	}
	if admin := (identity{role: notify.RoleAdmin}); !admin.owns("red") || !admin.owns("") {
		t.Error("everything is an administrator's")
	}
	if (identity{}).owns("") || (identity{name: "m", role: access.RoleMonitor}).owns("red") {
		t.Error("nobody owns nothing")
	}
	if consumer.ownerName() != "vnfm" || (identity{name: "root", role: notify.RoleAdmin}).ownerName() != "" {
		t.Error("a subscription has an owner when a consumer makes it")
	}
}
