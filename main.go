// Command paramedic tells the managers of virtual machines, at once, which of them a fault of their host hits.
package main

import (
	"os"

	"github.com/paramedic-ha/paramedic/agent"
	"github.com/paramedic-ha/paramedic/agent/cli"
)

// version is set by -ldflags "-X main.version=…"; without, the build information says it.
var version string

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Process{
		Stdin:   os.Stdin,
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Version: version,
		NewAgent: func(o cli.AgentOptions) (cli.Agent, error) {
			return agent.New(agent.Options{Config: o.Config, Version: o.Version, Log: o.Log, Beat: o.Beat, BeatGap: o.BeatGap})
		},
	}))
}
