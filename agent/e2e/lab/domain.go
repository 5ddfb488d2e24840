package lab

import (
	"fmt"
	"strings"
	"text/template"
)

// Guest is what a domain runs.
type Guest int

// Tiny halts at once, costs nothing and panics on a non-maskable interrupt; Linux boots Debian's kernel in some
// seconds and takes commands on its serial line.
const (
	Tiny Guest = iota
	Linux
)

// NIC is one virtual network card.
type NIC struct {
	Bridge string
	OVS    bool // the bridge is Open vSwitch's
	MAC    string
	Tap    string // name on the host; empty leaves it to libvirt (vnetN)
	PortID string // Neutron's, for the metadata
}

// Disk is one virtual disk.
type Disk struct {
	Path   string // raw, inside the host; made by the caller
	Target string // vda …
}

// Domain says what to define.
type Domain struct {
	Name, UUID string
	Project    string // owner in Nova's metadata; empty leaves the metadata out
	Metadata   string // raw XML instead of Nova's metadata
	Guest      Guest
	NICs       []NIC
	Disks      []Disk // with error_policy=stop
	Watchdog   bool   // i6300esb, action reset
	Agent      bool   // channel org.qemu.guest_agent.0
	OnCrash    string // default destroy, libvirt's own
}

// The tiny guest has no firmware but its own ROM, and no local APIC: that would mask the interrupt that makes it
// panic. Neither guest gets USB or a display.
var domainXML = template.Must(template.New("domain").Funcs(template.FuncMap{"esc": escapeXML}).Parse(`
<domain type='qemu'>
  <name>{{esc .Name}}</name>
  <uuid>{{.UUID}}</uuid>
  {{- if .Metadata}}
  <metadata>{{.Metadata}}</metadata>
  {{- else if .Project}}
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:package version="26.1.0"/>
      <nova:name>{{esc .Name}}</nova:name>
      <nova:owner>
        <nova:user uuid="9f1b6a0e0d5c4b0f8c1d2e3f4a5b6c7d">lab</nova:user>
        <nova:project uuid="{{.Project}}">lab</nova:project>
      </nova:owner>
      <nova:ports>{{range .NICs}}{{if .PortID}}
        <nova:port uuid="{{.PortID}}"><nova:ip type="fixed" address="10.1.1.1" ipVersion="4"/></nova:port>{{end}}{{end}}
      </nova:ports>
    </nova:instance>
  </metadata>
  {{- end}}
  <memory unit='MiB'>{{.MiB}}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    {{- if .Linux}}
    <kernel>{{.Kernel}}</kernel>
    <initrd>{{.Initrd}}</initrd>
    <cmdline>console=ttyS0 panic=-1 quiet tsc=unstable nokaslr mitigations=off</cmdline>
    {{- else}}
    <loader type='rom'>{{.ROM}}</loader>
    {{- end}}
  </os>
  <features><acpi/></features>
  {{- if not .Linux}}
  <cpu mode='custom' match='exact' check='none'><model>qemu64</model><feature policy='disable' name='apic'/></cpu>
  {{- end}}
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>{{.OnCrash}}</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='usb' model='none'/>
    {{- range .Disks}}
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' error_policy='stop'/>
      <source file='{{.Path}}'/>
      <target dev='{{.Target}}' bus='virtio'/>
    </disk>
    {{- end}}
    {{- range .NICs}}
    <interface type='bridge'>
      <mac address='{{.MAC}}'/>
      <source bridge='{{.Bridge}}'/>
      {{- if .OVS}}
      <virtualport type='openvswitch'/>
      {{- end}}
      {{- if .Tap}}
      <target dev='{{.Tap}}'/>
      {{- end}}
      <model type='virtio'/>
      <rom enabled='no'/>
    </interface>
    {{- end}}
    {{- if .Linux}}
    <serial type='unix'>
      <source mode='bind' path='{{.Serial}}'/>
      <log file='{{.Console}}'/>
      <target port='0'/>
    </serial>
    {{- end}}
    {{- if .Agent}}
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    {{- end}}
    {{- if .Watchdog}}
    <watchdog model='i6300esb' action='reset'/>
    {{- end}}
    <panic model='isa'/>
    <memballoon model='none'/>
  </devices>
</domain>`))

func escapeXML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "'", "&apos;", `"`, "&quot;").Replace(s)
}

func serialPath(name string) string  { return Dir + "/" + name + ".serial" }
func consolePath(name string) string { return Dir + "/" + name + ".console" }

// guestFiles is where a host has what guests boot.
type guestFiles struct{ ROM, Kernel, Initrd string }

// prepare puts in place what the guest needs and returns the domain's XML.
func (lv *Libvirt) prepare(d Domain) (string, error) {
	files := guestFiles{ROM: tinyROM}
	if d.Guest == Linux {
		var err error
		if files.Kernel, files.Initrd, err = lv.linuxGuest(); err != nil {
			return "", fmt.Errorf("prepare domain %s: %w", d.Name, err)
		}
	}
	return d.xml(files)
}

func (d Domain) xml(files guestFiles) (string, error) {
	data := struct {
		Domain
		guestFiles
		Linux           bool
		MiB             int
		Serial, Console string
	}{Domain: d, guestFiles: files, Linux: d.Guest == Linux, MiB: 4, Serial: serialPath(d.Name), Console: consolePath(d.Name)}
	if data.OnCrash == "" {
		data.OnCrash = "destroy"
	}
	if data.Linux {
		data.MiB = 96
	}
	var xml strings.Builder
	if err := domainXML.Execute(&xml, data); err != nil {
		return "", fmt.Errorf("prepare domain %s: %w", d.Name, err)
	}
	return xml.String(), nil
}
