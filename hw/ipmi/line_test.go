package ipmi

import (
	"testing"
	"time"
)

func TestSimulatorAnswers(t *testing.T) {
	s := startSimulator(t)
	l := &line{open: s.open, timeout: time.Second}
	defer l.close()
	d, err := l.do(t.Context(), Request{NetFn: netApp, Cmd: 1})
	t.Logf("% x %v", d, err)
	start := time.Now()
	for range 100 {
		if d, err = l.do(t.Context(), Request{NetFn: netStorage, Cmd: 0x43, Data: []byte{0, 0, 0xff, 0xff, 0, 0xff}}); err != nil {
		}
	}
	t.Log(time.Since(start)/100, err)
	s.bit(0x10, 1, true)
	select {
	case <-l.attention():
		t.Log("attention")
	case <-time.After(2 * time.Second):
		t.Error("no attention")
	}
	d, err = l.do(t.Context(), Request{NetFn: netStorage, Cmd: 0x43, Data: []byte{0, 0, 0xff, 0xff, 0, 0xff}})
	t.Logf("% x %v", d, err)
}
