package virt

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
)

func definitionOf(t testing.TB, file string) *definition {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	d, err := parseDefinition(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestARunningDomainOfNovaIsRead(t *testing.T) {
	d := definitionOf(t, "nova-1.1-running.xml")
	want := owner{instance: "vnf-a-1", project: "0c6f4b3a2d1e4f5a9b8c7d6e5f4a3b2c", user: "5f0f5b6c0b1c4f0f8d8c7b6a59483726", flavor: "m1.tiny", from: "nova-1.1"}
	if d.owner != want {
		t.Errorf("owner %+v, want %+v", d.owner, want)
	}
	if len(d.vnics) != 2 || d.vnics[0].link != "vnet0" || d.vnics[1].bridge != "br0" || d.vnics[0].alias != "net0" {
		t.Errorf("vnics %+v", d.vnics)
	}
	// Two interfaces and one port, and nothing that tells whose it is: better none than a wrong one.
	if d.vnics[0].portID != "" || d.vnics[1].portID != "" {
		t.Errorf("a port was guessed: %+v", d.vnics)
	}
	if len(d.vdisks) != 1 || d.vdisks[0].target != "vda" || d.vdisks[0].source != "/var/lib/libvirt/images/instance-00000001" {
		t.Errorf("vdisks %+v", d.vdisks)
	}
	if d.pinning != "0=0" || !d.panicDev || d.agent != "disconnected" || d.machine != "pc-i440fx-7.2" || len(d.problems) != 0 {
		t.Errorf("%+v", d)
	}
}

func TestEveryKindOfDeviceIsRead(t *testing.T) {
	d := definitionOf(t, "devices.xml")
	if d.owner.project != "p-1" || d.owner.from != "nova-1.0" {
		t.Errorf("owner %+v", d.owner)
	}
	dom := &domain{id: "8a3c1f52-0000-4000-8000-00000000002a", def: d, processed: true}
	got := map[string]string{}
	for i := range d.vnics {
		r := d.vnics[i].resource(dom)
		on := ""
		if len(r.Needs) > 0 {
			on = string(r.Needs[0].Of[0])
		}
		got[r.Port.MAC] = on + " " + r.Port.PortID
	}
	want := map[string]string{
		"fa:16:3e:00:00:01": "nic/tap11111111-3b 11111111-3b7d-4bad-9bdd-2b0d7b3dcb6d",
		"fa:16:3e:00:00:02": "nic/tap22222222-3b 22222222-3b7d-4bad-9bdd-2b0d7b3dcb6d",
		"fa:16:3e:00:00:03": "nic/0000:03:10.1 ",
		"fa:16:3e:00:00:04": "nic/macvtap0 ",
		"fa:16:3e:00:00:05": "nic/vhu5 ",
		"fa:16:3e:00:00:06": "nic/vhost-user-6 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("vnics (-want +got):\n%s", diff)
	}
	if len(d.problems) != 1 || !strings.Contains(d.problems[0], "fa:16:3e:00:00:02") {
		t.Errorf("problems %q, want the doubled mac address", d.problems)
	}
	if len(d.vdisks) != 2 || d.vdisks[0].source != "rbd:vms/8a3c_disk" || d.vdisks[0].policy != "stop" || d.vdisks[1].source != "/dev/dm-3" {
		t.Errorf("vdisks %+v", d.vdisks)
	}
	if d.pinning != "0=2 1=3,35 emulator=0-1" || d.agent != "connected" || d.watchdog != "i6300esb reset" {
		t.Errorf("%+v", d)
	}
}

func TestTheOneInterfaceThatIsLeftHasTheOnePortThatIsLeft(t *testing.T) {
	d := definition{vnics: []vnic{{link: "tap9b1deb4d-3b"}, {link: "vnet7"}}}
	d.matchPorts([]string{"11111111-3b7d-4bad-9bdd-2b0d7b3dcb6d", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"})
	if d.vnics[0].portID != "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d" || d.vnics[1].portID != "11111111-3b7d-4bad-9bdd-2b0d7b3dcb6d" {
		t.Errorf("%+v", d.vnics)
	}
}

func TestBrokenDefinitionsAreErrorsThatSayWhere(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "it is empty",
		"<domain>\n<name>x</domain>":     "line 2",
		"<network></network>":            "domain",
		"<domain>\xff</domain>":          "UTF-8",
		strings.Repeat("x", maxXML+1):    "over",
		"<domain><metadata></domain>":    "metadata",
		"<!DOCTYPE a [<!ENTITY b 'c'>]>": "empty",
	} {
		_, err := parseDefinition(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: error %v, want one with %q", text, err, want)
		}
	}
}

func TestMetadataIsBounded(t *testing.T) {
	wide := "<domain><name>x</name><metadata>" + strings.Repeat("<a/>", maxElements+10) + "</metadata></domain>"
	deep := "<domain><name>x</name><metadata>" + strings.Repeat("<a>", 500) + strings.Repeat("</a>", 500) + "</metadata></domain>"
	for _, text := range []string{wide, deep} {
		d, err := parseDefinition(text)
		if err != nil || len(d.problems) != 1 || d.name != "x" {
			t.Errorf("%+v, %v: want the name and one problem", d, err)
		}
	}
}

func TestOwnersAreFoundInTheirOrder(t *testing.T) {
	owners, err := newOwnership(Owners{
		UUIDs:    map[string]string{"8A3C1F52-0000-4000-8000-00000000000A": "by-uuid"},
		Names:    map[string]string{"vnf-*": "by-short-glob", "vnf-a-*": "by-long-glob"},
		Metadata: MetadataPath{Namespace: "urn:x", Element: "owner"},
	}, VNFs{})
	if err != nil {
		t.Fatal(err)
	}
	mine := `<domain><metadata><x:app xmlns:x="urn:x"><x:owner> by-element </x:owner></x:app></metadata></domain>`
	nova := `<domain><metadata>` + novaMetadata + `</metadata></domain>`
	for _, c := range []struct{ id, name, xml, want string }{
		{uuidA, "vnf-a-1", mine, "by-uuid"},
		{uuidB, "vnf-a-1", mine, "by-long-glob"},
		{uuidB, "vnf-b-1", mine, "by-short-glob"},
		{uuidB, "other", mine, "by-element"},
		{uuidB, "other", "<domain/>", ""},
		{uuidA, "vnf-a-1", nova, "0c6f4b3a2d1e4f5a9b8c7d6e5f4a3b2c"},
	} {
		d, err := parseDefinition(c.xml)
		if err != nil {
			t.Fatal(err)
		}
		owners.apply(c.id, c.name, d)
		if d.owner.project != c.want {
			t.Errorf("%s %s: project %q, want %q", c.id, c.name, d.owner.project, c.want)
		}
	}
}

func TestADomainsVNFIsFoundInTheOrderOfTheRules(t *testing.T) {
	rules, err := newOwnership(Owners{}, VNFs{
		UUIDs:      map[string]string{"8A3C1F52-0000-4000-8000-00000000000A": "by-uuid"},
		Names:      map[string]string{"vfw-*": "by-short-glob", "vfw-a-*": "by-long-glob"},
		Expression: "^vnf-([0-9a-f]+)_",
		Metadata:   MetadataPath{Namespace: "urn:x", Element: "vnf"},
		VNFC:       MetadataPath{Namespace: "urn:x", Element: "vnfc"},
	})
	if err != nil {
		t.Fatal(err)
	}
	mine := `<domain><metadata><x:app xmlns:x="urn:x"><x:vnf> by-element </x:vnf><x:vnfc>vdu-1</x:vnfc></x:app></metadata></domain>`
	nova := func(name string) string {
		return `<domain><metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:name>` + name + `</nova:name></nova:instance></metadata></domain>`
	}
	for _, c := range []struct {
		id, name, xml string
		want          correlate.VNF
		from          string
	}{
		{uuidA, "vfw-a-1", mine, correlate.VNF{ID: "by-uuid", VNFC: "vdu-1"}, "uuid"},
		{uuidB, "vfw-a-1", mine, correlate.VNF{ID: "by-long-glob", VNFC: "vdu-1"}, "name"},
		{uuidB, "vfw-b-1", "<domain/>", correlate.VNF{ID: "by-short-glob"}, "name"},
		{uuidB, "instance-0001", nova("vfw-b-1"), correlate.VNF{ID: "by-short-glob"}, "name"},
		{uuidB, "instance-0001", nova("vnf-77ab_vdu-1"), correlate.VNF{ID: "77ab"}, "expression"},
		{uuidB, "vnf-12_x", mine, correlate.VNF{ID: "12", VNFC: "vdu-1"}, "expression"},
		{uuidB, "other", mine, correlate.VNF{ID: "by-element", VNFC: "vdu-1"}, "metadata"},
		{uuidB, "other", strings.Replace(mine, "by-element", "", 1), correlate.VNF{}, ""},
		{uuidB, "other", nova("other"), correlate.VNF{}, ""},
	} {
		d, err := parseDefinition(c.xml)
		if err != nil {
			t.Fatal(err)
		}
		rules.apply(c.id, c.name, d)
		dom := &domain{id: c.id, name: c.name, def: d, processed: true, standing: map[correlate.Condition]correlate.Event{}}
		if r := dom.resources("host/h")[0]; r.VNF != c.want || r.Facts["vnf_from"] != c.from {
			t.Errorf("%s %s: %+v by %q, want %+v by %q", c.id, c.name, r.VNF, r.Facts["vnf_from"], c.want, c.from)
		}
	}
}

func TestConfigurationErrorsNameKeyAndRemedy(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		want string
	}{
		{Config{URI: "qemu+ssh://root@other/system"}, "only this host's libvirt"},
		{Config{URI: "/run/libvirt"}, "qemu:///system"},
		{Config{URI: "qemu:///session"}, "hw.virt.socket"},
		{Config{Timeout: -1}, "negative"},
		{Config{Owners: Owners{UUIDs: map[string]string{"x": "p"}}}, "hw.virt.owners.uuids"},
		{Config{Owners: Owners{Names: map[string]string{"[": "p"}}}, "hw.virt.owners.names"},
		{Config{Owners: Owners{Metadata: MetadataPath{Namespace: "urn:x"}}}, "hw.virt.owners.metadata"},
		{Config{VNFs: VNFs{UUIDs: map[string]string{"x": "p"}}}, "hw.virt.vnfs.uuids"},
		{Config{VNFs: VNFs{Names: map[string]string{"[": "p"}}}, "hw.virt.vnfs.names"},
		{Config{VNFs: VNFs{Expression: "("}}, "hw.virt.vnfs.expression"},
		{Config{VNFs: VNFs{Expression: "vnf-.*"}}, "in parentheses"},
		{Config{VNFs: VNFs{Metadata: MetadataPath{Namespace: "urn:x"}}}, "hw.virt.vnfs.metadata"},
		{Config{VNFs: VNFs{VNFC: MetadataPath{Namespace: "urn:x"}}}, "hw.virt.vnfs.vnfc"},
	} {
		if _, err := New(c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.cfg, err, c.want)
		}
	}
}

func TestTheModularSocketIsTriedFirst(t *testing.T) {
	got, err := socketsFor("qemu:///system", "")
	if want := []string{"/run/libvirt/virtqemud-sock-ro", "/run/libvirt/libvirt-sock-ro"}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
}

func FuzzDefinition(f *testing.F) {
	for _, name := range []string{"nova-1.1-running.xml", "devices.xml"} {
		text, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("<domain><metadata><a>x</a></metadata></domain>")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parseDefinition(text)
		if err != nil {
			return
		}
		owners, _ := newOwnership(Owners{Metadata: MetadataPath{Namespace: "urn:x", Element: "owner"}}, VNFs{Expression: "(.*)", VNFC: MetadataPath{Element: "a"}})
		owners.apply(uuidA, d.name, d)
		dom := &domain{id: uuidA, name: d.name, def: d, processed: true, standing: map[correlate.Condition]correlate.Event{}}
		seen := map[correlate.ID]bool{}
		for _, r := range dom.resources("host/h") {
			if seen[r.ID] {
				t.Fatalf("%s is stated twice", r.ID)
			}
			seen[r.ID] = true
			for k, v := range r.Facts {
				if !utf8.ValidString(v) || strings.ContainsAny(v, "\x00\x1b\n\r\x7f") {
					t.Fatalf("fact %s of %s: %q", k, r.ID, v)
				}
			}
		}
	})
}
