package agent

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"time"

	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
	"github.com/paramedic-ha/paramedic/hw/clock"
	"github.com/paramedic-ha/paramedic/hw/disk"
	"github.com/paramedic-ha/paramedic/hw/host"
	"github.com/paramedic-ha/paramedic/hw/ipmi"
	"github.com/paramedic-ha/paramedic/hw/kmsg"
	"github.com/paramedic-ha/paramedic/hw/mem"
	"github.com/paramedic-ha/paramedic/hw/nic"
	"github.com/paramedic-ha/paramedic/hw/ovs"
	"github.com/paramedic-ha/paramedic/hw/pressure"
	"github.com/paramedic-ha/paramedic/hw/service"
	"github.com/paramedic-ha/paramedic/hw/virt"
)

// sourceSpec is one row of the table of sources.
type sourceSpec struct {
	name string
	// options returns what the source is configured with, to see at a reload whether it changed; nil when it is off.
	options func(*config.Config) any
	build   func(*config.Config, *slog.Logger) (hw.Source, error)
}

// sourceTable is every source there is, the most urgent first: the loop looks at their queues in this order.
func sourceTable(a *Agent) []sourceSpec {
	// Who looks at once when the kernel writes of what it watches.
	prompts := map[string]hw.Prompt{"mem": hw.NewPrompt(), "disk": hw.NewPrompt()}
	return []sourceSpec{
		{
			name:    "nic",
			options: func(c *config.Config) any { return unless(c.HW.NIC.Disabled, c.HW.NIC) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				return nic.New(nic.Config{Include: c.HW.NIC.Include, Exclude: c.HW.NIC.Exclude, Alarmed: a.alarmedLinks, Log: log})
			},
		},
		{
			name:    "ovs",
			options: func(c *config.Config) any { return unless(c.HW.OVS.Disabled, []any{c.HW.OVS, c.HW.NIC.Include}) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				o := c.HW.OVS
				return ovs.New(ovs.Config{
					Socket: o.Socket, Interval: o.Interval, Timeout: o.Timeout, Include: c.HW.NIC.Include, Standing: a.standing("ovs"), Log: log,
				})
			},
		},
		{
			name:    "virt",
			options: func(c *config.Config) any { return unless(c.HW.Virt.Disabled, c.HW.Virt) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				v := c.HW.Virt
				return virt.New(virt.Config{
					URI: v.URI, Socket: v.Socket, Timeout: v.Timeout, Resync: v.Resync,
					Owners: virt.Owners{
						UUIDs: v.Owners.UUIDs, Names: v.Owners.Names,
						Metadata: virt.MetadataPath(v.Owners.Metadata),
					},
					VNFs: virt.VNFs{
						UUIDs: v.VNFs.UUIDs, Names: v.VNFs.Names, Expression: v.VNFs.Expression,
						Metadata: virt.MetadataPath(v.VNFs.Metadata), VNFC: virt.MetadataPath(v.VNFs.VNFC),
					},
					Host: hostID(c), Log: log,
				})
			},
		},
		{
			name:    "ipmi",
			options: func(c *config.Config) any { return unless(c.HW.IPMI.Disabled, c.HW.IPMI) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				i := c.HW.IPMI
				return ipmi.New(ipmi.Config{
					Host: hostID(c), Device: i.Device, Interval: i.Interval, Scan: i.Scan, Timeout: i.Timeout, Ignore: i.Ignore,
					PowerSupplies: i.PowerSupplies, Fans: i.Fans, Dir: c.Notify.Dir, Standing: a.standing("ipmi"), Log: log,
				})
			},
		},
		{
			name:    "mem",
			options: func(c *config.Config) any { return unless(c.HW.Mem.Disabled, c.HW.Mem) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				m := c.HW.Mem
				return mem.New(mem.Config{
					Host: hostID(c), Poll: m.Poll, Prompt: prompts["mem"], Corrected: m.Corrected, Window: m.Window,
					Baseline: filepath.Join(c.Notify.Dir, "mem.json"), Standing: a.standing("mem"), Log: log,
				}), nil
			},
		},
		{
			name:    "disk",
			options: func(c *config.Config) any { return unless(c.HW.Disk.Disabled, c.HW.Disk) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				d := c.HW.Disk
				health := d.Health
				if health == 0 {
					health = -1
				}
				return disk.New(disk.Config{
					Poll: d.Poll, Prompt: prompts["disk"], Full: d.Full, Filesystems: d.Filesystems, Dir: c.Notify.Dir,
					Health: health, Sectors: d.Sectors, VDisks: a.vdisks(), Standing: a.standing("disk"), Log: log,
				}), nil
			},
		},
		{
			name:    "service",
			options: func(c *config.Config) any { return unless(c.HW.Service.Disabled, c.HW.Service) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				s := c.HW.Service
				return service.New(service.Config{
					Host: hostID(c), Hypervisor: virt.Hypervisor, Units: c.ServiceUnits(), Without: s.Without,
					Restarts: int(s.Restarts), Window: s.Window, Timeout: s.Timeout, Resync: s.Resync,
					Standing: a.standing("service"), Log: log,
				})
			},
		},
		{
			name:    "pressure",
			options: func(c *config.Config) any { return unless(c.HW.Pressure.Disabled, c.HW.Pressure) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				p := c.HW.Pressure
				return pressure.New(pressure.Config{
					Host: hostID(c), Poll: p.Poll, Window: p.Window, Limits: c.PressureLimits(), Standing: a.standing("pressure"), Log: log,
				})
			},
		},
		{
			name:    "clock",
			options: func(c *config.Config) any { return unless(c.HW.Clock.Disabled, c.HW.Clock) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				return clock.New(clock.Config{Host: hostID(c), Poll: c.HW.Clock.Poll, Limit: c.HW.Clock.Limit, Log: log}), nil
			},
		},
		{
			name:    "host",
			options: func(c *config.Config) any { return unless(c.HW.Host.Disabled, c.HW.Host) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				h := c.HW.Host
				return host.New(host.Config{
					Host: hostID(c), Poll: h.Poll, Corrected: h.Corrected, Window: h.Window, Throttled: h.Throttled,
					Sensors: host.Sensors(h.Sensors), Known: filepath.Join(c.Notify.Dir, "processors.json"),
					Standing: a.standing("host"), Log: log,
				}), nil
			},
		},
		{
			name:    "kmsg",
			options: func(c *config.Config) any { return unless(c.HW.Kmsg.Disabled, c.HW.Kmsg) },
			build: func(c *config.Config, log *slog.Logger) (hw.Source, error) {
				k := c.HW.Kmsg
				return kmsg.New(kmsg.Config{
					Host: hostID(c), Cursor: filepath.Join(c.Notify.Dir, "kmsg.cursor"), Without: k.Without, Ignore: k.Ignore,
					Patterns: c.KernelPatterns(), Prompts: prompts, Standing: a.standing("kmsg"), Log: log,
				})
			},
		},
	}
}

// unless gives the options of a source that is not off.
func unless(disabled bool, options any) any {
	if disabled {
		return nil
	}
	return options
}

// built is a source that was constructed for a configuration.
type built struct {
	spec   sourceSpec
	source hw.Source // nil: off, or unchanged
	keep   bool      // what runs now may go on
}

// buildSources makes every source that old did not already run with the same options. It starts nothing, so that a
// reload can fail as a whole.
func buildSources(specs []sourceSpec, old, c *config.Config, log *slog.Logger) ([]built, error) {
	out := make([]built, 0, len(specs))
	for _, spec := range specs {
		b := built{spec: spec}
		options := spec.options(c)
		switch {
		case old != nil && reflect.DeepEqual(spec.options(old), options):
			b.keep = true
		case options != nil:
			source, err := spec.build(c, log.With("source", spec.name))
			if err != nil {
				return nil, fmt.Errorf("set up the %s source: %w", spec.name, err)
			}
			b.source = source
		}
		out = append(out, b)
	}
	return out, nil
}

// enabled names the sources that will state a full truth.
func enabled(sources []built) []string {
	var names []string
	for _, b := range sources {
		if b.source != nil {
			names = append(names, b.spec.name)
		}
	}
	return names
}

// alarmedLinks are the links on which alarms stand, with who needs them, for a link source that starts.
func (a *Agent) alarmedLinks(ctx context.Context) (map[correlate.ID][]correlate.ID, error) {
	links := make(map[correlate.ID][]correlate.ID)
	err := a.Query(ctx, func(e *correlate.Engine) {
		for _, alarm := range e.Alarms() {
			if alarm.Source == "nic" {
				links[alarm.Key.Resource] = alarm.NeededBy
			}
		}
	})
	return links, err
}

// domainsWithin is how long the disks' source waits at its start for the domains to be listed. Without them it would say that no
// domain stands on a disk that failed, and take it back a moment later.
const domainsWithin = 3 * time.Second

// vdisks gives the disks of the domains that run, as far as they are files or devices of this host. The first call waits for
// the domains.
func (a *Agent) vdisks() func(context.Context) ([]disk.VDisk, error) {
	waited := false
	return func(ctx context.Context) ([]disk.VDisk, error) {
		if !waited {
			if err := a.awaitStatement(ctx, "virt", domainsWithin); err != nil {
				return nil, err
			}
			waited = true
		}
		var all []disk.VDisk
		err := a.Query(ctx, func(e *correlate.Engine) {
			for _, r := range e.RunningVDisks() {
				if path := r.Facts["source"]; filepath.IsAbs(path) && (r.Facts["kind"] == "file" || r.Facts["kind"] == "block") {
					all = append(all, disk.VDisk{ID: r.ID, Path: path})
				}
			}
		})
		return all, err
	}
}

// awaitStatement waits until a source has stated its full truth, is off or has nothing to watch, or until limit has passed.
func (a *Agent) awaitStatement(ctx context.Context, source string, limit time.Duration) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	poll := time.NewTicker(restatedPoll)
	defer poll.Stop()
	for {
		watched := false
		for _, s := range a.supervised() {
			h, _, _ := s.condition()
			watched = watched || s.source.Name() == source && h.Sight != hw.SightAbsent
		}
		if !watched || a.loop.hasStated(source) {
			return nil
		}
		select {
		case <-poll.C:
		case <-end.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// standing gives the keys of a source's alarms.
func (a *Agent) standing(source string) func(context.Context) ([]correlate.Key, error) {
	return func(ctx context.Context) ([]correlate.Key, error) {
		var keys []correlate.Key
		err := a.Query(ctx, func(e *correlate.Engine) {
			for _, alarm := range e.Alarms() {
				if alarm.Source == source {
					keys = append(keys, alarm.Key)
				}
			}
		})
		return keys, err
	}
}

func hostID(c *config.Config) correlate.ID { return correlate.NewID(correlate.KindHost, c.Node.Name) }
