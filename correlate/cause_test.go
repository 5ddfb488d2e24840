package correlate

import (
	"slices"
	"strings"
	"testing"
)

// causes are the probable causes of ITU-T X.733 (annex A, X.721), of operational violations (X.736), and in the last line some
// that M.3100 adds (IANA-ITU-ALARM-TC-MIB has them all); hyphenated.
var causes = strings.Fields(`
	adaptor-error application-subsystem-failure bandwidth-reduced call-establishment-error communications-protocol-error
	communications-subsystem-failure configuration-or-customization-error congestion corrupt-data cpu-cycles-limit-exceeded
	data-set-or-modem-error degraded-signal dte-dce-interface-error enclosure-door-open equipment-malfunction excessive-vibration
	file-error fire-detected flood-detected framing-error heating-ventilation-cooling-system-problem humidity-unacceptable
	io-device-error input-device-error lan-error leak-detected local-node-transmission-error loss-of-frame loss-of-signal
	material-supply-exhausted multiplexer-problem out-of-memory output-device-error performance-degraded power-problem
	pressure-unacceptable processor-problem pump-failure queue-size-exceeded receive-failure receiver-failure
	remote-node-transmission-error resource-at-or-nearing-capacity response-time-excessive retransmission-rate-excessive
	software-error software-program-abnormally-terminated software-program-error storage-capacity-problem temperature-unacceptable
	threshold-crossed timing-problem toxic-leak-detected transmit-failure transmitter-failure underlying-resource-unavailable
	version-mismatch out-of-service indeterminate
	system-call-unsuccessful memory-mismatch fan-failure cooling-system-failure external-power-supply-failure high-temperature
	loss-of-redundancy watchdog-timer-expired intrusion-detected
`)

func TestProbableCausesAreStandardOnes(t *testing.T) {
	for _, r := range Rules() {
		if !slices.Contains(causes, r.ProbableCause) {
			t.Errorf("%s: %q is no probable cause of X.733", r.Condition, r.ProbableCause)
		}
	}
}
