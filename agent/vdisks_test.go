package agent

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/hw"
	"github.com/paramedic-ha/paramedic/hw/disk"
)

func TestDisksWaitForTheDomainsThatStandOnThem(t *testing.T) {
	list := make(chan struct{})
	a := start(t, testConfig(t), oneSource("virt", func(ctx context.Context, sink hw.Sink) error {
		select {
		case <-list:
		case <-ctx.Done():
			return ctx.Err()
		}
		file := map[string]string{"kind": "file", "source": "/images/a"}
		if err := sink.Emit(ctx, correlate.Delta{Full: true, Set: []correlate.Resource{
			{ID: "domain/a"},
			{ID: "vdisk/a/vda", Domain: "domain/a", Facts: file},
			{ID: "vdisk/a/vdb", Domain: "domain/a", Facts: map[string]string{"kind": "network", "source": "pool/b"}},
			{ID: "domain/off", Inactive: true},
			{ID: "vdisk/off/vda", Domain: "domain/off", Facts: file},
		}}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}))
	got := make(chan []disk.VDisk, 1)
	go func() {
		all, err := a.vdisks()(t.Context())
		if err != nil {
			t.Error(err)
		}
		got <- all
	}()
	select {
	case all := <-got:
		t.Fatalf("told %v before the domains were listed", all)
	case <-time.After(3 * restatedPoll):
	}
	close(list)
	if diff := cmp.Diff([]disk.VDisk{{ID: "vdisk/a/vda", Path: "/images/a"}}, <-got); diff != "" {
		t.Error(diff)
	}
}

func TestDisksWaitForNoDomainsWhereThereAreNone(t *testing.T) {
	a := start(t, testConfig(t), oneSource("virt", func(ctx context.Context, sink hw.Sink) error {
		sink.Health(hw.Health{Sight: hw.SightAbsent, Text: "no socket"})
		<-ctx.Done()
		return ctx.Err()
	}))
	for _, source := range []string{"virt", "one that is switched off"} {
		if err := a.awaitStatement(t.Context(), source, time.Hour); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
}

func TestDisksWaitNoLongerThanTheirLimitForALibvirtThatHangs(t *testing.T) {
	a := start(t, testConfig(t), oneSource("virt", func(ctx context.Context, _ hw.Sink) error {
		<-ctx.Done()
		return ctx.Err()
	}))
	if err := a.awaitStatement(t.Context(), "virt", 2*restatedPoll); err != nil {
		t.Error(err)
	}
}
