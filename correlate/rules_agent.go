package correlate

// Ourselves.
const (
	CondSourceBlind  Condition = "source-blind"          // a source of ours can't see
	CondSourceFailed Condition = "source-failed"         // a source of ours panicked or gave up
	CondOutbox       Condition = "outbox"                // deliveries are not durable
	CondSubscription Condition = "subscription-failed"   // a consumer can't be reached, asked to stop, or refuses what it is sent
	CondConflict     Condition = "subscription-conflict" // the files of two hosts contradict each other
	CondUnusable     Condition = "subscription-unusable" // what another host knows of it can't be used here
	CondPeer         Condition = "peer-unreadable"       // what another host writes can't be read here
	CondUnshared     Condition = "unshared"              // what this host has to say does not reach the others
	CondClock        Condition = "clock"                 // this host's clock and that of most others differ
)

var agentRules = []Rule{
	{
		Condition: CondSourceBlind, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "underlying-resource-unavailable", AbstractCause: CauseHypervisor,
		Text:   "a source of this agent can't see",
		Remedy: "The text names the remedy. What it watches keeps its last known state meanwhile.",
	},
	{
		Condition: CondSourceFailed, State: StateFailed, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseHypervisor,
		Text:   "a source of this agent failed",
		Remedy: "It is started again with growing pauses. Please report the log's stack trace.",
	},
	{
		Condition: CondOutbox, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "storage-capacity-problem", AbstractCause: CauseHypervisor,
		Text:   "deliveries are not durable",
		Remedy: "Make room on, or repair, the file system of notify.dir. Notifications still go out; those under way would not survive a crash.",
	},
	{
		Condition: CondSubscription, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseHypervisor,
		Text:   "a consumer can't be reached, asked to stop, or refuses what it is sent",
		Remedy: "Look at `paramedic deliveries`: repair the endpoint, then retry what is parked, or discard it; or delete the subscription.",
	},
	{
		Condition: CondConflict, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "the configuration files of several hosts name a subscription with different contents",
		Remedy: "Make the subscription equal in the files of all hosts, and reload them. Until then each host uses its own.",
	},
	{
		Condition: CondUnusable, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "a subscription that the cluster has can't be used at this host, or not be given to the other hosts",
		Remedy: "The text names the reason: upgrade this host, give it the secrets_key_file of the others, or make the subscription's filter shorter.",
	},
	{
		Condition: CondPeer, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "version-mismatch", AbstractCause: CauseHypervisor,
		Text:   "another host writes what this one can't read",
		Remedy: "Upgrade the older of the two. What can be read of the other host still counts.",
	},
	{
		Condition: CondUnshared, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseHypervisor,
		Text:   "what this host has to say does not reach the other hosts",
		Remedy: "The text names the reason. This host still notifies consumers itself; its peers could not speak for it.",
	},
	{
		Condition: CondClock, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "timing-problem", AbstractCause: CauseHypervisor,
		Text:   "the clock of this host is wrong",
		Remedy: "Let NTP (chrony, systemd-timesyncd) set it. From five minutes on it is major: consumers that check the time of a signature refuse what this host sends, this alarm included (any host's `paramedic alarms` shows it). While it is ahead subscriptions can't be made here.",
	},
}
