package correlate

import "time"

// How much is asked of the host, whether its clock is kept right, and the services that it needs.
const (
	CondMemoryExhausted  Condition = "memory-exhausted"       // hardly any memory is left
	CondMemoryPressure   Condition = "memory-pressure"        // tasks stand still for want of memory
	CondCPUPressure      Condition = "cpu-pressure"           // tasks wait for a processor
	CondIOPressure       Condition = "io-pressure"            // tasks stand still for their storage
	CondCPUStolen        Condition = "cpu-stolen"             // the host is a guest itself, and its hypervisor takes its time
	CondCPUStarved       Condition = "cpu-starved"            // a domain's virtual processors wait for a processor
	CondTasksExhausted   Condition = "tasks-exhausted"        // hardly any process or thread can be started
	CondFilesExhausted   Condition = "files-exhausted"        // hardly any file can be opened
	CondConntrack        Condition = "connections-exhausted"  // hardly any connection can be tracked
	CondUnsynchronised   Condition = "clock-unsynchronised"   // nothing keeps the clock right
	CondServiceFailed    Condition = "service-failed"         // a service of the host has failed
	CondNetworkService   Condition = "network-service-failed" // the same of one of the virtual network
	CondServiceRestarted Condition = "service-restarting"     // it dies and is started again, over and over
)

// ntpHold is how long a clock may be unsynchronised: at the start of a host its time service needs minutes.
const ntpHold = 5 * time.Minute

var loadRules = []Rule{
	{
		Condition: CondMemoryExhausted, State: StateAtRisk, Severity: SeverityMajor,
		EventType: TypeQualityOfService, ProbableCause: "resource-at-or-nearing-capacity", AbstractCause: CauseCompute,
		Text:   "hardly any memory is left: the kernel is about to kill processes",
		Causes: "Domains larger together than the host, huge pages that leave too little for the rest, page cache that can't be given up (tmpfs, shared memory), a leak.",
		Remedy: "Move domains away, or look who took the memory (`ps --sort -rss`). Reserve more for the host.",
	},
	{
		Condition: CondMemoryPressure, State: StateDegraded, Severity: SeverityMajor,
		EventType: TypeQualityOfService, ProbableCause: "performance-degraded", AbstractCause: CauseCompute,
		Text:   "tasks stand still because memory is fetched back from disk, over and over",
		Causes: "The working set does not fit: too many domains, a limit of a group that is too tight, swapping, a ballooned guest; it precedes `memory-exhausted`, or goes on without ever getting there.",
		Remedy: "Move domains away. `/proc/pressure/memory` shows how it develops; a group's own memory.pressure shows who suffers.",
	},
	{
		Condition: CondCPUPressure, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeQualityOfService, ProbableCause: "performance-degraded", AbstractCause: CauseCompute,
		Text:   "tasks of the host wait for a processor nearly all the time",
		Causes: "More runnable threads than processors: too many domains, a build or backup on the host, everything pinned to few processors, a loop in a daemon.",
		Remedy: "Look what runs (`top`); move domains away. cpu-starved names the domains that suffer.",
	},
	{
		Condition: CondIOPressure, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeQualityOfService, ProbableCause: "performance-degraded", AbstractCause: CauseStorage,
		Text:   "the host does little but wait for its storage",
		Causes: "A disk that is failing and retries, a rebuild or scrub, a backup, swapping, network storage that is slow; a device that is simply too small for its domains.",
		Remedy: "Look which disk is busy or slow (`iostat -x`), and for alarms of it.",
	},
	{
		Condition: CondCPUStolen, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeQualityOfService, ProbableCause: "performance-degraded", AbstractCause: CauseCompute,
		Text:   "the host is a virtual machine, and does not get the processor time that it asks for",
		Causes: "Other virtual machines on the same hypervisor, a quota on this one, burst credits of a cloud that are used up.",
		Remedy: "Its own hypervisor is overcommitted: move it, or give it processors of its own.",
	},
	{
		Condition: CondCPUStarved, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeQualityOfService, ProbableCause: "performance-degraded", AbstractCause: CauseCompute,
		Text:   "a virtual processor of the domain wants to run and waits for a processor (the guest sees it as steal)",
		Causes: "Overcommitted processors, two domains pinned to the same ones, host tasks or interrupts on isolated processors, emulator threads that were not pinned apart.",
		Remedy: "Too many domains share the processors, or something else runs on those that the domain is pinned to. Move one of them, or pin it elsewhere.",
	},
	{
		Condition: CondTasksExhausted, State: StateAtRisk, Severity: SeverityMajor,
		EventType: TypeQualityOfService, ProbableCause: "resource-at-or-nearing-capacity", AbstractCause: CauseCompute,
		Text:   "the host can start hardly any more processes or threads",
		Causes: "A service that forks without end or never reaps its children, very many threads of a few daemons, limits left at the default on a large host.",
		Remedy: "Look who has so many (`ps -eLf`); raise kernel.pid_max and kernel.threads-max if they are meant.",
	},
	{
		Condition: CondFilesExhausted, State: StateAtRisk, Severity: SeverityMajor,
		EventType: TypeQualityOfService, ProbableCause: "resource-at-or-nearing-capacity", AbstractCause: CauseCompute,
		Text:   "the host can open hardly any more files",
		Causes: "A daemon that leaks descriptors or connections, very many domains with many disks and queues each.",
		Remedy: "Look who has so many (`lsof`); raise fs.file-max if they are meant.",
	},
	{
		Condition: CondConntrack, State: StateAtRisk, Severity: SeverityMajor,
		EventType: TypeQualityOfService, ProbableCause: "resource-at-or-nearing-capacity", AbstractCause: CauseNetwork,
		Text:   "the kernel can track hardly any more connections: when the table is full, packets of new ones are dropped",
		Causes: "A flood or scan, a guest with very many short connections (DNS, SIP, load tests), timeouts that are too long, a table left at the default on a large host.",
		Remedy: "Raise net.netfilter.nf_conntrack_max, and look who makes so many connections (`conntrack -L`).",
	},
	{
		Condition: CondUnsynchronised, HoldDown: ntpHold, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "timing-problem", AbstractCause: CauseHypervisor,
		Text:   "nothing keeps the host's clock right",
		Causes: "No time service is installed or running, its servers can't be reached (firewall, DNS, a lost default route), it refuses to step a clock that is far off.",
		Remedy: "Look at chronyd, ntpd, systemd-timesyncd or phc2sys, and whether its time servers answer (`chronyc sources`).",
	},
	{
		Condition: CondServiceFailed, State: StateFailed, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseHypervisor,
		Text:   "a service of the host has failed",
		Causes: "Its process crashed, was killed for want of memory, could not start with a configuration that was changed, or timed out at starting; a unit that it needs failed.",
		Remedy: "`systemctl status` and `journalctl -u` of the unit say why; start it again. `systemctl reset-failed` ends the alarm of one that is not needed.",
	},
	{
		// What it has set up goes on without it; what changes is lost. So the domains are at risk, and not hit.
		Condition: CondNetworkService, State: StateAtRisk, Severity: SeverityCritical,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseNetwork,
		Text:   "a service of the virtual network has failed: flows that are set up may go on, nothing new comes up",
		Causes: "The agent crashed or was killed, can't reach its message bus or database and gave up, does not start after an upgrade or a changed configuration; its switch daemon is gone.",
		Remedy: "`systemctl status` and `journalctl -u` of the unit say why; start it again. `systemctl reset-failed` ends the alarm of one that is not needed.",
	},
	{
		Condition: CondServiceRestarted, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseHypervisor,
		Text:   "a service of the host dies and is started again, over and over",
		Causes: "A configuration or dependency that lets it start and die at once, a watchdog of systemd that it does not feed, memory that runs out, a crash that repeats with the same input.",
		Remedy: "`journalctl -u` of the unit says why it dies.",
	},
}
