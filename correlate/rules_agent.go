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
		Causes: "What it asks has stopped answering: a BMC that hangs or is being updated, a message bus that is down or a systemd that reloads, ovsdb-server, an EDAC or IPMI driver that was unloaded; or links change faster than they can be read.",
		Remedy: "The text names the remedy. What it watches keeps its last known state meanwhile.",
	},
	{
		Condition: CondSourceFailed, State: StateFailed, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "software-program-abnormally-terminated", AbstractCause: CauseHypervisor,
		Text:   "a source of this agent failed",
		Causes: "A fault in this program that the source could not go on after: hardware or a kernel that answers in a form nobody had met.",
		Remedy: "It is started again with growing pauses. Please report the log's stack trace.",
	},
	{
		Condition: CondOutbox, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "storage-capacity-problem", AbstractCause: CauseHypervisor,
		Text:   "deliveries are not durable",
		Causes: "The file system of notify.dir is full, was mounted read-only, has failed below, or is not writable for the agent's user; a disk that takes seconds to write; a damaged outbox, which was set aside.",
		Remedy: "Make room on, or repair, the file system of notify.dir. Notifications still go out; those under way would not survive a crash.",
	},
	{
		Condition: CondSubscription, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeCommunications, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseHypervisor,
		Text:   "a consumer can't be reached, asked to stop, or refuses what it is sent",
		Causes: "The consumer is down or being upgraded, its address or name has changed, a firewall or proxy lies between, its certificate has expired, or it no longer accepts the secret, token or form of what is sent (4xx). After a 410 it asked for the end itself.",
		Remedy: "Look at `paramedic deliveries`: repair the endpoint, then retry what is parked, or discard it; or delete the subscription.",
	},
	{
		Condition: CondConflict, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "the configuration files of several hosts name a subscription with different contents",
		Causes: "A change of the file that has not been rolled out to all hosts yet, or a host on which somebody changed it by hand.",
		Remedy: "Make the subscription equal in the files of all hosts, and reload them. Until then each host uses its own.",
	},
	{
		Condition: CondUnusable, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "configuration-or-customization-error", AbstractCause: CauseHypervisor,
		Text:   "a subscription that the cluster has can't be used at this host, or not be given to the other hosts",
		Causes: "This host is older than the one where the subscription was made; its secrets key is another, or the old one was taken out before everything was sealed anew; the subscription's filter lists too much for one record.",
		Remedy: "The text names the reason: upgrade this host, give it the secrets_key_file of the others, or make the subscription's filter shorter.",
	},
	{
		Condition: CondPeer, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "version-mismatch", AbstractCause: CauseHypervisor,
		Text:   "another host writes what this one can't read",
		Causes: "In the middle of an upgrade: one host is two versions ahead. Otherwise a damaged state that came along with a copied disk, or a faulty agent.",
		Remedy: "Upgrade the older of the two. What can be read of the other host still counts.",
	},
	{
		Condition: CondUnshared, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "communications-subsystem-failure", AbstractCause: CauseHypervisor,
		Text:   "what this host has to say does not reach the other hosts",
		Causes: "Thousands of domains, alarms or subscriptions, mostly of something that makes them in a loop and never removes them; or one alarm that is too large for a record.",
		Remedy: "The text names the reason. This host still notifies consumers itself; its peers could not speak for it.",
	},
	{
		Condition: CondClock, State: StateDegraded, Severity: SeverityWarning,
		EventType: TypeProcessingError, ProbableCause: "timing-problem", AbstractCause: CauseHypervisor,
		Text:   "the clock of this host is wrong",
		Causes: "Its time service is dead or can't reach its servers; a host that woke up or was restored from a snapshot; a hardware clock with an empty battery or in local time; rarely, that most of the others are wrong.",
		Remedy: "Let NTP (chrony, systemd-timesyncd) set it. From five minutes on it is major: consumers that check the time of a signature refuse what this host sends, this alarm included (any host's `paramedic alarms` shows it). While it is ahead subscriptions can't be made here.",
	},
}
