package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// monitor is qemu's own control line (docs/interop/qmp-spec). Not for two goroutines at once.
type monitor struct {
	conn net.Conn
	in   *json.Decoder
}

const monitorPatience = 20 * time.Second

// dialMonitor waits for qemu to listen, and greets it.
func dialMonitor(socket string, ended <-chan struct{}) (*monitor, error) {
	deadline := time.Now().Add(monitorPatience)
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			m := &monitor{conn: conn, in: json.NewDecoder(conn)}
			if err = m.call("qmp_capabilities", nil, nil); err != nil {
				err = errors.Join(err, conn.Close())
			}
			return m, err
		}
		if !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			return nil, fmt.Errorf("qemu's monitor: %w", err)
		}
		select {
		case <-ended:
			return nil, errors.New("qemu ended")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// call runs a command and decodes what it returns; result may be nil. Events and the greeting are passed over.
func (m *monitor) call(command string, arguments, result any) error {
	if err := m.conn.SetDeadline(time.Now().Add(monitorPatience)); err != nil {
		return err
	}
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("qemu: %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := m.in.Decode(&answer); err != nil {
			return fmt.Errorf("qemu: %s: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return fmt.Errorf("qemu: %s: %s", command, answer.Error.Desc)
		case answer.Return != nil && result != nil:
			return json.Unmarshal(answer.Return, result)
		case answer.Return != nil:
			return nil
		}
	}
}

// human runs a command of the monitor for people, for what the other has not. Those say "Error" in words.
func (m *monitor) human(line string) (said string, err error) {
	err = m.call("human-monitor-command", map[string]string{"command-line": line}, &said)
	return said, err
}
