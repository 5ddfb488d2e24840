package correlate

import "time"

// The virtual switch (Open vSwitch).
const (
	CondSwitch         Condition = "switch-failed"          // the process that switches is gone
	CondSwitchHung     Condition = "switch-hung"            // it runs and does not answer
	CondSwitchDatabase Condition = "switch-database-failed" // its configuration can't be read or changed
	CondPort           Condition = "port-failed"            // it can't use a port
	CondTunnel         Condition = "tunnel-down"            // the other end of a tunnel does not answer
	CondLACP           Condition = "lacp"                   // no partner agrees to aggregate
)

// tunnelHoldDown is how long a new tunnel may take to find its other end.
const tunnelHoldDown = 5 * time.Second

var switchRules = []Rule{
	{
		Condition: CondSwitch, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning, AckClears: true,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseNetwork,
		Text:   "the virtual switch does not run: bridges of its own datapath forward nothing, those in the kernel only what they know",
		Causes: "It crashed, was killed for want of memory or huge pages, is being upgraded, did not start because DPDK could not get its devices or memory; or somebody stopped it, or sent it SIGSTOP.",
		Remedy: "Look at its log and start it (`systemctl restart openvswitch-switch` or `ovs-vswitchd`). Acknowledge the alarm when it was taken out of use.",
	},
	{
		Condition: CondSwitchHung, State: StateDegraded, Severity: SeverityCritical, Absorbed: SeverityWarning, AckClears: true,
		EventType: TypeProcessingError, ProbableCause: "software-program-error", AbstractCause: CauseNetwork,
		Text:   "the virtual switch runs and does not answer: what it was not told before it does not learn",
		Causes: "Very many flow changes or ports at once, a DNS name in its configuration that does not resolve, a device whose driver does not return, a host out of processor or memory.",
		Remedy: "Look at its log (`Unreasonably long … poll interval`), its threads and the load of the host; restart it when it does not come back.",
	},
	{
		Condition: CondSwitchDatabase, State: StateAtRisk, Severity: SeverityMajor, AckClears: true,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseNetwork,
		Text:   "the virtual switch's database is dead or does not answer: it forwards as before, and no port can be plugged in or changed, nor seen",
		Causes: "ovsdb-server crashed, was killed or stopped; its disk is full or its database file damaged; it is busy with a compaction or with clients that ask too much.",
		Remedy: "Start ovsdb-server (`systemctl restart openvswitch-switch` or `ovsdb-server`). Acknowledge the alarm when it was taken out of use.",
	},
	{
		Condition: CondPort, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseNetwork,
		Text:   "the virtual switch can't use the port",
		Causes: "The device does not exist (any more) or is in another namespace, a PCI address that DPDK has not bound, options that contradict or are of a newer version, a tunnel with the parameters of another one.",
		Remedy: "The text is its own reason (`ovs-vsctl show`). Repair the options of the interface or the device, or delete the port.",
	},
	{
		Condition: CondTunnel, HoldDown: tunnelHoldDown, State: StateAtRisk, Severity: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "remote-node-transmission-error", AbstractCause: CauseNetwork,
		Text:   "the other end of the tunnel does not answer (BFD)",
		Causes: "The other host is down or restarts, its switch is; the underlay lost a route; a firewall swallows UDP of the tunnel.",
		Remedy: "Mostly the other host is down, or the network between the two. Who sits there says more.",
	},
	{
		Condition: CondLACP, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "communications-protocol-error", AbstractCause: CauseNetwork,
		Text:   "no partner on the link agrees to aggregate (LACP)",
		Causes: "The switch's port is not in a channel or in a static one, the cable leads to another port than planned, LACP frames are filtered, the partner restarts.",
		Remedy: "Look at the port channel of the switch that the link leads to, and at its cable.",
	},
}
