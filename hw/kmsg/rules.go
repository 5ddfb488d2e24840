package kmsg

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// rule says what a line of the kernel means. The first that matches a line has it.
type rule struct {
	name string // what the configuration calls it
	// hints: one of them is in each line that matches. They are looked for first, because an expression costs a hundred
	// times more. None: any line may match.
	hints     []string
	pattern   *regexp.Regexp
	condition correlate.Condition // empty: the line is told by nobody but the source that it prompts
	severity  correlate.Severity  // unset: the condition's
	// prompts names the source that sees more when it looks now; Config.Prompts has it.
	prompts string
	// on names the resources by the groups of the pattern; nil: the host. None: the line is not told.
	on func(s *Source, r record, groups []string) []correlate.ID
}

// standard is the table of what is known, from the kernel's sources (5.10 to 6.12). docs/hardware.md shows it.
func standard() []rule {
	re := regexp.MustCompile
	return []rule{
		// kernel/hung_task.c
		{name: "hung-task", hints: []string{"blocked"}, pattern: re(`^INFO: task .+:\d+ blocked (?:in I/O wait )?for more than \d+ seconds`), condition: correlate.CondHungTask},
		// kernel/watchdog.c
		{name: "soft-lockup", hints: []string{"soft lockup"}, pattern: re(`BUG: soft lockup - CPU#\d+ stuck for \d+s!`), condition: correlate.CondLockup},
		{name: "hard-lockup", hints: []string{"hard LOCKUP"}, pattern: re(`Watchdog detected hard LOCKUP on cpu \d+`), condition: correlate.CondLockup},
		// kernel/rcu/tree_stall.h, tree_exp.h
		{name: "rcu-stall", hints: []string{" stall"}, pattern: re(`^rcu: INFO: \S+ (?:self-detected stall on CPU|detected stalls on CPUs/tasks|detected expedited stalls)`), condition: correlate.CondLockup},
		// kernel/workqueue.c
		{name: "workqueue-lockup", hints: []string{"workqueue lockup"}, pattern: re(`^BUG: workqueue lockup - pool`), condition: correlate.CondLockup},
		// arch/x86/mm/fault.c, arch/*/kernel/traps.c, lib/bug.c
		{name: "oops", hints: []string{"BUG", "nable to handle", "general protection", "Oops"}, pattern: re(`^(?:BUG: unable to handle |BUG: kernel NULL pointer dereference|kernel BUG at |Unable to handle kernel |general protection fault|Oops: )`), condition: correlate.CondOops},
		// mm/oom_kill.c: __oom_kill_process
		{name: "out-of-memory", hints: []string{"Killed process"}, pattern: re(`^(Memory cgroup out|Out) of memory(?: \([a-z_]+\))?: Killed process (\d+) \((.*?)\) `), condition: correlate.CondOutOfMemory, on: victims},
		// fs/ext4/super.c, fs/jbd2/journal.c, fs/btrfs/messages.c. The mount table tells it, too, and when it is over.
		{name: "ext4-read-only", hints: []string{"Remounting filesystem read-only"}, pattern: re(`^EXT[234]-fs (?:error )?\((?:device )?([^)\s]+)\): (?:[^:]*: )?Remounting filesystem read-only`), prompts: "disk"},
		{name: "btrfs-read-only", hints: []string{"forced readonly"}, pattern: re(`^BTRFS \w+ \(device ([^)\s]+?)(?:: state \w+)?\): forced readonly`), prompts: "disk"},
		// fs/xfs/xfs_fsops.c: a file system that was shut down answers each call with an error.
		{name: "xfs-shutdown", hints: []string{"XFS ("}, pattern: re(`^XFS \(([^)\s]+)\): .*(?:[Ss]hutting down filesystem|Filesystem has been shut down)`), prompts: "disk"},
		// fs/ext4/super.c: __ext4_error and its like; fs/xfs/xfs_error.c; fs/btrfs/messages.c
		{name: "ext4-error", hints: []string{"EXT"}, pattern: re(`^EXT[234]-fs error \(device ([^)\s]+)\)`), condition: correlate.CondFilesystem, on: volume, prompts: "disk"},
		{name: "xfs-error", hints: []string{"XFS ("}, pattern: re(`^XFS \(([^)\s]+)\): (?:Metadata (?:corruption|CRC error)|Corruption |Internal error|log I/O error|metadata I/O error)`), condition: correlate.CondFilesystem, on: volume, prompts: "disk"},
		{name: "btrfs-error", hints: []string{"BTRFS "}, pattern: re(`^BTRFS (?:error|critical) \(device ([^)\s]+?)(?:: state \w+)?\)`), condition: correlate.CondFilesystem, on: volume, prompts: "disk"},
		// block/blk-mq.c: blk_print_req_error; with its function's name before 5.16. What only asks for another try is none.
		{name: "io-error", hints: []string{" error, dev "}, pattern: re(`^(?:(?:blk_update_request|print_req_error): )?(?:I/O|critical target|critical medium|critical space allocation|protection|timeout) error, dev (\S+), sector \d+`), condition: correlate.CondDiskError, on: disk, prompts: "disk"},
		// fs/buffer.c: buffer_io_error
		{name: "buffer-io-error", hints: []string{"Buffer I/O error on dev"}, pattern: re(`^Buffer I/O error on dev(?:ice)? (\S+), logical block`), condition: correlate.CondDiskError, on: disk, prompts: "disk"},
		// net/sched/sch_generic.c: dev_watchdog; since 6.5 with the device before it
		{name: "transmit-timeout", hints: []string{"NETDEV WATCHDOG: "}, pattern: re(`NETDEV WATCHDOG: (\S+) \(\S*\): transmit queue \d+ timed out`), condition: correlate.CondTransmitTimeout, on: link},
		{name: "transmit-timeout", hints: []string{"NETDEV WATCHDOG: "}, pattern: re(`(\S+?): NETDEV WATCHDOG: CPU: \d+: transmit queue \d+ timed out`), condition: correlate.CondTransmitTimeout, on: link},
		// drivers/scsi/megaraid, drivers/scsi/mpt3sas, drivers/nvme/host/pci.c, drivers/net/ethernet/mellanox/mlx5/core/health.c,
		// drivers/net/ethernet/broadcom/bnxt
		{name: "firmware", hints: []string{"FAULT", "fault_state", "controller is down", "poll_health", "irmware "}, pattern: re(`(?:FW in FAULT state|_base_fault_info: fault_state|fault_state\(0x|: controller is down; will reset: CSTS=|poll_health:\d+:\(pid \d+\): (?:Fatal error|device's health compromised)|[Ff]irmware (?:crashed|has crashed|is not responding|fatal error|hang detected))`), condition: correlate.CondFirmware, on: device, prompts: "disk"},
		// drivers/md/raid1.c, raid10.c, raid5.c; drivers/md/dm-mpath.c; drivers/scsi/scsi_error.c, scsi_lib.c, sd.c;
		// drivers/nvme/host. What has become of the devices, sysfs shows.
		{name: "device-lost", hints: []string{"Disk failure on", "Failing path", "ffline", "Detached ", "Synchroniz", "nvme nvme"}, pattern: re(`^(?:md/raid\S*:\S+: Disk failure on|device-mapper: multipath: \S+: Failing path|sd \S+ .*(?:[Oo]ffline|Detached|Synchroniz)|nvme nvme\d+: )`), prompts: "disk"},
		// drivers/edac/edac_mc.c: edac_ce_error, edac_ue_error, edac_mc_add_mc_with_groups
		{name: "edac", hints: []string{"EDAC "}, pattern: re(`^EDAC (?:\S+ )?MC\d+: (?:\d+ [CU]E |Giving out device)`), prompts: "mem"},
		// arch/x86/kernel/cpu/mce/core.c: print_mce. Bit 61 of the status: uncorrected.
		{name: "machine-check", hints: []string{"Machine Check"}, pattern: re(`CPU \d+: Machine Check(?: Exception)?: [0-9a-f]+ Bank \d+: ([0-9a-f]{16})`), condition: correlate.CondMachineCheck, on: uncorrected},
		{name: "corrected-machine-check", hints: []string{"Machine Check"}, pattern: re(`CPU \d+: Machine Check: [0-9a-f]+ Bank \d+: [0-9a-f]{16}`), condition: correlate.CondCorrected},
		// drivers/acpi/apei/ghes.c: the firmware's own record
		{name: "hardware-error", hints: []string{"[Hardware Error]"}, pattern: re(`\[Hardware Error\]:.*event severity: (?:fatal|recoverable)`), condition: correlate.CondMachineCheck},
		{name: "corrected-hardware-error", hints: []string{"[Hardware Error]"}, pattern: re(`\[Hardware Error\]:.*event severity: corrected`), condition: correlate.CondCorrected},
		// drivers/thermal/intel/therm_throt.c, arch/x86/kernel/cpu/mce before 5.5
		{name: "throttled", hints: []string{"throttled"}, pattern: re(`CPU(\d+): (?:Core|Package) temperature (?:is )?above threshold, cpu clock is throttled`), condition: correlate.CondThrottled, on: processor},
		// drivers/pci/pcie/aer.c (the severity's word changed in 6.9), dpc.c, err.c
		{name: "pcie-error", hints: []string{"PCIe Bus Error"}, pattern: re(`PCIe Bus Error: severity=Uncorrect(?:ed|able) \(Fatal\)`), condition: correlate.CondPCIeFatal, on: device},
		{name: "pcie-error", hints: []string{"PCIe Bus Error"}, pattern: re(`PCIe Bus Error: severity=Uncorrect(?:ed|able) \(Non-Fatal\)`), condition: correlate.CondPCIeNonFatal, on: device},
		{name: "pcie-error", hints: []string{"DPC: ", "recovery failed"}, pattern: re(`(?:DPC: containment event|(?:AER|DPC|EDR|PCIe): device recovery failed)`), condition: correlate.CondPCIeFatal, on: device},
	}
}

// volume is a file system, which is called by its device.
func volume(_ *Source, _ record, groups []string) []correlate.ID {
	return named(correlate.KindVolume, groups[1])
}

// disk leaves out drives whose medium is changed: reading one that is empty is no fault.
func disk(s *Source, _ record, groups []string) []correlate.ID {
	name := strings.TrimSuffix(groups[1], ",")
	if removable(name) {
		return nil
	}
	return []correlate.ID{s.config.Root.OfBlock(name)}
}

func removable(name string) bool {
	return strings.HasPrefix(name, "fd") || strings.HasPrefix(name, "sr")
}

func link(_ *Source, _ record, groups []string) []correlate.ID {
	return named(correlate.KindNIC, groups[1])
}

func named(kind correlate.Kind, name string) []correlate.ID {
	return []correlate.ID{correlate.NewID(kind, name)}
}

func uncorrected(s *Source, _ record, groups []string) []correlate.ID {
	if status, err := strconv.ParseUint(groups[1], 16, 64); err != nil || status&(1<<61) == 0 {
		return nil // the rule behind this one has it
	}
	return []correlate.ID{s.config.Host}
}

// device finds what a PCI device is to others; the host when that is not known.
func device(s *Source, r record, _ []string) []correlate.ID {
	if pci, ok := strings.CutPrefix(r.device, "+pci:"); ok {
		if ids := s.config.Root.OfPCI(pci); len(ids) > 0 {
			return ids
		}
	}
	return []correlate.ID{s.config.Host}
}

// processor is the package of the processor that the line is about.
func processor(s *Source, _ record, groups []string) []correlate.ID {
	n, err := strconv.Atoi(groups[1])
	if err != nil {
		return nil
	}
	return []correlate.ID{s.config.Root.PackageOf(n)}
}

// victims are the host, unless only a group's limit was reached, and the domain whose process was killed. The kernel tells of the
// kill before the process has ended, so its command line is mostly still there.
func victims(s *Source, _ record, groups []string) []correlate.ID {
	var ids []correlate.ID
	if groups[1] == "Out" {
		ids = append(ids, s.config.Host)
	}
	if strings.HasPrefix(groups[3], "qemu") || strings.Contains(groups[3], "kvm") {
		if uuid := s.config.Root.DomainOf(groups[2]); uuid != "" {
			ids = append(ids, correlate.NewID(correlate.KindDomain, uuid))
		}
	}
	return ids
}

// custom turns the patterns of the configuration into rules. They come first, so that they can say what a known line is.
func custom(patterns []Pattern) ([]rule, error) {
	rules := make([]rule, 0, len(patterns))
	var errs []error
	for i, p := range patterns {
		re, err := regexp.Compile(p.Match)
		if err != nil {
			errs = append(errs, fmt.Errorf("hw.kmsg.patterns[%d]: %w", i, err))
			continue
		}
		rules = append(rules, rule{name: p.Name, pattern: re, condition: correlate.CondKernelMessage, severity: p.Severity})
	}
	return rules, errors.Join(errs...)
}

// Rules names the rules of the standard table, once each, for the configuration's checks.
func Rules() []string {
	var names []string
	for _, r := range standard() {
		if !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
	}
	return names
}
