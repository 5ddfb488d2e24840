package correlate

// Links, and what holds for all that has members or may vanish.
const (
	CondCarrier    Condition = "carrier"     // no signal on the link although it is enabled
	CondDisabled   Condition = "disabled"    // administratively down (ip link set down)
	CondGone       Condition = "gone"        // the resource vanished
	CondLinkErrors Condition = "link-errors" // error counters rise faster than they should
	// CondGroup is what a failed k-of-n group says when its need names no condition.
	CondGroup Condition = "group-failed"
)

var linkRules = []Rule{
	{
		Condition: CondCarrier, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning, Follows: true,
		EventType: TypeCommunications, ProbableCause: "loss-of-signal", AbstractCause: CauseNetwork,
		Text:   "the link is enabled and has no carrier",
		Causes: "A cable or transceiver that was pulled or died, a switch port that was shut, a switch that restarts; for virtual links, their other end. On a bond: all legs at once, so mostly the switch.",
		Remedy: "Look at the cable, the transceiver and the switch port. On a bond, at its legs; on a VLAN or macvtap, at its parent.",
	},
	{
		Condition: CondDisabled, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "out-of-service", AbstractCause: CauseNetwork,
		Text:   "the link is administratively down",
		Causes: "`ip link set down` by hand or script, a network service that was reloaded or stopped, a failed `ifup`; on a VLAN or bridge, a service that is rebuilding it.",
		Remedy: "Find out who ran `ip link set … down`; set it up again. An adapter that is taken out of use for good: take it out of its bond or bridge.",
	},
	{
		Condition: CondGone, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning, AckClears: true,
		EventType: TypeEquipment, ProbableCause: "equipment-malfunction",
		Text:   "it was there and has vanished",
		Causes: "Hardware: a card that fell off its bus, a drive that was pulled or died, a power supply taken out. Software: a driver that was unloaded, a device moved into a namespace, VFs that were disabled, a bridge that a service deleted.",
		Remedy: "Plug it in again, rescan the bus, or look in the kernel log why its driver let go. Acknowledge the alarm when it was taken out on purpose.",
	},
	{
		Condition: CondLinkErrors, State: StateDegraded, Severity: SeverityMinor, Absorbed: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "lan-error", AbstractCause: CauseNetwork,
		Text:   "the link's error counters rise faster than they should",
		Causes: "A dirty or damaged fibre, a transceiver at its end, a copper cable too long or badly crimped, FEC or duplex that differs at both ends. Frames that the host dropped for want of buffers are not counted.",
		Remedy: "Exchange the cable or the transceiver; compare the counters of the switch port. The figures are in the alarm's text.",
	},
	{
		Condition: CondGroup, State: StateFailed, Severity: SeverityCritical, Absorbed: SeverityWarning,
		EventType: TypeEquipment, ProbableCause: "underlying-resource-unavailable",
		Text:   "too few of its members work",
		Causes: "Its members failed one after the other without anybody acting on the warnings, or share something that failed.",
		Remedy: "Look at its members: their alarms are correlated under this one.",
	},
}
