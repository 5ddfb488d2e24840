package lab

import (
	"strings"
	"testing"
)

func TestAMachineHasAClockOfItsOwn(t *testing.T) {
	l, err := New()
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	defer func() { must(l.Close()) }()
	sw, err := l.Switch("switch")
	must(err)
	h, err := l.Host("h")
	must(err)
	_, err = sw.Attach(h, "mgmt0", "10.99.0.1/24")
	must(err)
	m, err := sw.Machine(MachineSpec{Name: "m", Addr: "10.99.0.50/24", Files: map[string][]byte{"bin/hello": []byte("#!/bin/sh\necho hello $1\nexit 3\n")}})
	must(err)
	out, err := m.Run("hello there")
	if out != "hello there\n" || err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%q, %v", out, err)
	}
	_, err = m.Run("date -s 2001-02-03 && date | grep 2001 && ping -c 1 10.99.0.1")
	must(err)
	out, err = h.Run("date", "+%Y")
	if err != nil || out <= "2025" {
		t.Errorf("the host's year is %s, %v", out, err)
	}
	must(m.Off())
}
