// Package cli is the command line: run and check-config, what asks the local agent over its API, and a ready consumer.
//
// Exit status: 0 good, 1 the answer is bad (invalid, not found, refused), 2 wrong usage, 3 the agent can't be reached.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	"github.com/willabides/kongplete"

	"github.com/paramedic-ha/paramedic/agent/config"
)

// The exit statuses.
const (
	exitOK          = 0
	exitBad         = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// Process is what the commands see of the process that they run in.
type Process struct {
	Stdin    io.Reader
	Stdout   io.Writer
	Stderr   io.Writer
	Version  string                            // empty: taken from the build information
	NewAgent func(AgentOptions) (Agent, error) // for run

	now  func() time.Time // nil: the real clock, in local time
	wide int              // columns of a table; 0: those of the terminal, or no limit
}

// serverFlags say which agent to talk to, and who does.
type serverFlags struct {
	Server          string `help:"The agent to talk to: unix:///path or https://host:port; of several, with commas, watch goes on with the next when one is away." default:"unix:///run/paramedic/api.sock" env:"PARAMEDIC_SERVER" placeholder:"URL"`
	ServerTokenFile string `help:"The file of the token to show it." env:"PARAMEDIC_TOKEN_FILE" placeholder:"FILE"`
	ServerCAFile    string `name:"server-ca-file" help:"Who may issue its certificate, instead of those whom the system trusts (PEM)." env:"PARAMEDIC_CA_FILE" placeholder:"FILE"`
	ServerCertFile  string `help:"The certificate to show it (PEM)." env:"PARAMEDIC_CERT_FILE" placeholder:"FILE"`
	ServerKeyFile   string `help:"The key of that certificate (PEM)." env:"PARAMEDIC_KEY_FILE" placeholder:"FILE"`
}

// commands is the grammar.
type commands struct {
	serverFlags

	Output  string `short:"o" help:"Print table, json or yaml." enum:"table,json,yaml" default:"table"`
	NoColor bool   `name:"no-color" help:"No colours (also: NO_COLOR in the environment)."`

	Run           runCommand           `cmd:"" help:"Run the agent."`
	CheckConfig   checkCommand         `cmd:"" help:"Say everything that is wrong with a configuration file."`
	Status        statusCommand        `cmd:"" help:"The agent in one look."`
	Top           topCommand           `cmd:"" help:"Hosts, alarms, deliveries and latency, all the time."`
	Hosts         hostsCommand         `cmd:"" help:"The hosts of the cluster, and how they are."`
	Alarms        alarmsCommand        `cmd:"" help:"What is wrong now, or was; with an alarm: all about it."`
	Explain       explainCommand       `cmd:"" help:"Why an alarm is what it is, and who was told."`
	Ack           ackCommand           `cmd:"" help:"Say that an alarm is known."`
	Comment       commentCommand       `cmd:"" help:"Write something to an alarm, for whoever reads it."`
	Clear         clearCommand         `cmd:"" help:"End an alarm by hand, whose source does not."`
	Mute          muteCommand          `cmd:"" help:"Keep consumers from being told of some alarms for a while."`
	Events        eventsCommand        `cmd:"" help:"What the sources have observed lately."`
	Emit          emitCommand          `cmd:"" help:"Hand in an event as another monitor would."`
	Topology      topologyCommand      `cmd:"" help:"What needs what, and how it is."`
	Watch         watchCommand         `cmd:"" help:"Alarms as they happen, until interrupted."`
	Subscriptions subscriptionsCommand `cmd:"" help:"Who wants to be told what."`
	Subscribe     subscribeCommand     `cmd:"" help:"Have a URL called for each fault that matches."`
	Unsubscribe   unsubscribeCommand   `cmd:"" help:"End a subscription."`
	Pause         pauseCommand         `cmd:"" help:"Send a subscription nothing until it is resumed."`
	Resume        resumeCommand        `cmd:"" help:"Send a subscription what it is owed again."`
	Renew         renewCommand         `cmd:"" help:"Put off the end of a subscription."`
	Rotate        rotateCommand        `cmd:"" help:"Give a subscription another secret, without a gap."`
	Test          testCommand          `cmd:"" help:"Send a test notification to a subscription."`
	Deliveries    deliveriesCommand    `cmd:"" help:"What is still owed to consumers."`
	Keys          keysCommand          `cmd:"" help:"The keys that the hosts talk with: change them without a gap."`
	Bundle        bundleCommand        `cmd:"" help:"Gather what a bug report needs in one archive, without secrets."`
	Profile       profileCommand       `cmd:"" help:"Where the time of recent notifications went, stage by stage."`
	Receive       receiveCommand       `cmd:"" help:"Be a consumer: print each notification and its latency."`
	Keygen        keygenCommand        `cmd:"" help:"Make a secret to sign notifications with, a key of the cluster, or a token of the API."`
	Version       versionCommand       `cmd:"" help:"Print the version."`
	Manual        manualCommand        `cmd:"" hidden:"" help:"Print the manual page."`
}

// session is what a command works with.
type session struct {
	Process
	ctx     context.Context // ends on SIGINT and SIGTERM
	client  *client         // the first of
	clients []*client
	out     *printer
}

// exitError carries an exit status.
type exitError struct {
	status int
	err    error // nil: everything has been said
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// Main runs one command and returns the exit status.
func Main(args []string, p Process) int {
	if p.now == nil {
		p.now = time.Now
	}
	if p.Version == "" {
		p.Version = buildVersion()
	}
	var grammar commands
	exited := -1 // set by --help
	parser, err := kong.New(&grammar,
		kong.Name("paramedic"),
		kong.Description("Tells the managers of virtual machines, at once, which of them a fault of their host hits."),
		kong.Writers(p.Stdout, p.Stderr),
		kong.Exit(func(status int) { exited = status }),
		kong.Vars{"defaultConfig": config.DefaultPath},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(p.Stderr, "paramedic: command line:", err)
		return exitUsage
	}
	kongplete.Complete(parser, kongplete.WithExitFunc(func(int) { exited = exitOK })) // a shell asks what may come next
	if exited >= 0 {
		return exited
	}
	kctx, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(p.Stderr, "paramedic: %v\nTry: paramedic --help\n", err)
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := &session{Process: p, ctx: ctx}
	s.out = newPrinter(p, grammar.Output, grammar.NoColor)
	for server := range strings.SplitSeq(grammar.Server, ",") {
		c, err := newClient(strings.TrimSpace(server), grammar.serverFlags, p.Version)
		if err != nil {
			fmt.Fprintln(p.Stderr, "paramedic:", err)
			return exitUsage
		}
		s.clients = append(s.clients, c)
	}
	s.client = s.clients[0]
	err = kctx.Run(s, parser)
	if err == nil {
		err = s.out.failed()
	}
	status := exitOK
	if err != nil {
		status = exitBad
		var ee *exitError
		if errors.As(err, &ee) {
			status = ee.status
		}
		if text := err.Error(); text != "" {
			fmt.Fprintln(p.Stderr, "paramedic:", escape(text))
		}
	}
	return status
}

// buildVersion is the module's version, or the commit that it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}

type versionCommand struct{}

func (versionCommand) Run(s *session) error {
	return s.out.show(map[string]string{"version": s.Version}, func() { s.out.line("paramedic " + s.Version) })
}
