// Package agent is the process: it joins the sources, the engine and the consumers' notifier, and answers the API.
//
// Data goes one way: sources → queues → loop (engine) → notifier and feed. The Agent owns every goroutine it starts and
// ends them in the reverse order.
package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/cluster"
	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/agent/history"
	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/agent/southbound"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/hw"
	hosthw "github.com/paramedic-ha/paramedic/hw/host"
	"github.com/paramedic-ha/paramedic/notify"
)

// selfSource names the deltas that the agent states about its own host and itself.
const selfSource = correlate.SpokenSource

// Options is what an Agent is made of.
type Options struct {
	Config  *config.Config
	Version string
	Log     *slog.Logger
	// Beat is called about every BeatGap by the goroutine that owns the engine: what a service watchdog is fed with. It
	// must not block. Zero BeatGap means one second.
	Beat    func()
	BeatGap time.Duration

	// ShuttingDown says whether the host itself is going down, when the agent is about to stop. Nil: systemd is asked.
	ShuttingDown func(context.Context) bool

	sources []sourceSpec // of tests; nil means the table
}

// Agent is one running paramedic. Its methods are safe for concurrent use.
type Agent struct {
	version      string
	log          *slog.Logger
	specs        []sourceSpec
	registry     *prometheus.Registry
	notifier     *notify.Notifier
	cluster      *cluster.Cluster // nil: this host is alone
	server       *api.Server
	past         *history.Store
	loop         *loop
	memory       *memory
	monitors     *southbound.Desk
	shuttingDown func(context.Context) bool
	self         *queue
	told         *queue // what the ledger has said: a source of its own, which takes back itself what it said in an earlier run

	reloading   sync.Mutex // held by whoever changes what runs: it waits for sources, so nobody who asks needs it
	mu          sync.Mutex // of the fields below; never held while waiting
	config      *config.Config
	pending     []built
	started     time.Time
	running     context.Context
	supervisors map[string]*supervisor
	stops       []func() // last in, first out
	stopping    bool
	failed      chan error
	stopOnce    sync.Once
	stopped     chan struct{}
}

// New builds everything that the configuration names and starts nothing but the opening of the outbox. An error names
// what could not be set up.
func New(opts Options) (*Agent, error) {
	c := opts.Config
	a := &Agent{
		version:     opts.Version,
		log:         opts.Log,
		specs:       opts.sources,
		registry:    prometheus.NewRegistry(),
		config:      c,
		supervisors: make(map[string]*supervisor),
		failed:      make(chan error, 8), // one per long-running part; each sends once at the most
		stopped:     make(chan struct{}),
	}
	if a.specs == nil {
		a.specs = sourceTable(a)
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(opts.Version))

	var err error
	if a.pending, err = buildSources(a.specs, nil, c, a.log); err != nil {
		return nil, err
	}
	a.past = history.New(history.Config{
		Dir: c.Notify.Dir, MaxAlarms: c.History.MaxAlarms, MaxAge: c.History.MaxAge, Log: a.log, Now: time.Now,
	})
	a.loop = newLoop(a.registry, a.past, time.Now)
	for _, spec := range a.specs {
		a.loop.queue(spec.name)
	}
	a.self = a.loop.queue(selfSource)
	a.told = a.loop.queue(ledger.Source)
	a.shuttingDown = opts.ShuttingDown
	if a.shuttingDown == nil {
		a.shuttingDown = systemStopping
	}
	a.memory = recall(c.Notify.Dir, cluster.KernelBoot(), a.log)
	// The full truth about ourselves is that nothing is wrong; what is wrong nevertheless is reported after it.
	a.stateSelf(c, true)
	notifying := notify.Config{
		Owners: ownersOf(&c.API),
		Node:   c.Node.Name, Label: c.Cluster.Label, Dir: c.Notify.Dir, MaxAge: c.Notify.Retry.MaxAge,
		AllowCallbacks: c.Notify.AllowCallbacks, Proxy: c.Proxy(), SOL: c.Notify.SOL.Site(), UserAgent: "paramedic/" + opts.Version,
		Log: a.log, Metrics: a.registry, Report: a.report, Place: placeOf(c),
	}
	if c.Cluster.Secrets != nil {
		notifying.Sealer = c.Cluster.Secrets
	}
	heard := newWords(a.log, a.loop.feed, a.report)
	if c.Cluster.Bind != "" {
		if a.cluster, err = a.newCluster(c, notifying.Sealer, heard); err != nil {
			return nil, fmt.Errorf("set up the cluster: %w", err)
		}
		notifying.Peers = a.cluster
	}
	if a.notifier, err = notify.New(notifying); err != nil {
		return nil, fmt.Errorf("open the outbox in %s: %w", c.Notify.Dir, err)
	}
	a.past.Open() // behind the outbox, which tells a second agent that it is one
	desk := southbound.Config{Node: c.Node.Name, Mappings: c.Mappings(), Apply: a.applyMonitored, Now: time.Now, Memory: a.past}
	if a.cluster != nil {
		desk.Peers = a.cluster
	}
	a.monitors = southbound.NewDesk(desk)
	restored := a.notifier.Restored()
	engine := correlate.Config{
		Home: c.Node.Name, Term: restored.Term, Policies: c.Policies(), Rules: southbound.Rules(c.Mappings()),
		Sources: append(enabled(a.pending), selfSource),
	}
	if a.cluster == nil {
		a.told.offer(correlate.Delta{Full: true}) // this host is alone now
		a.loop.engine, a.loop.publish = correlate.New(engine, restored.Alarms), a.notifier.Publish
	} else {
		a.loop.peers = &peers{words: heard, cluster: a.cluster, notifier: a.notifier, log: a.log, engine: engine}
		a.loop.publish = func(eff correlate.Effects) {
			a.notifier.Publish(eff)
			a.cluster.Effects(eff)
		}
	}
	if opts.Beat != nil {
		a.loop.beat = opts.Beat
	}
	if opts.BeatGap > 0 {
		a.loop.beatGap = opts.BeatGap
	}
	a.registry.MustRegister(newCollector(a))
	if err := a.notifier.SetFile(c.Subscriptions()); err != nil {
		return nil, errors.Join(fmt.Errorf("take over the subscriptions of the configuration: %w", err), a.closeUnstarted())
	}
	if a.cluster != nil {
		a.cluster.Attach(a.notifier)
		a.cluster.OpenEvents(a.handedOn)
	}
	a.checkCertificate(&c.API)
	a.server, err = api.New(api.Config{
		Backend: a, Node: c.Node.Name, Socket: c.API.Socket, Listen: c.API.Listen, Access: accessOf(&c.API), Log: a.log, Gatherer: a.registry,
		SOL: c.Notify.SOL.Site(),
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up the API: %w", err), a.closeUnstarted())
	}
	return a, nil
}

// newCluster makes the peers' side, which starts nothing.
func (a *Agent) newCluster(c *config.Config, sealer notify.Sealer, home cluster.Home) (*cluster.Cluster, error) {
	peer := c.Peer()
	peer.Dir = c.Notify.Dir
	if c.Cluster.KeyPath != "" {
		var err error
		if peer.Keys, err = gossip.LoadKeyring(c.Cluster.KeyPath, peer.Dir); err != nil {
			return nil, err
		}
	}
	watched := cluster.WatchConfig{
		Witness: c.Cluster.Witness, Probable: c.Cluster.Detect.Probable, Confirmed: c.Cluster.Detect.Confirmed,
		Boot: a.memory.boot, Started: time.Now(), Policies: c.Policies(),
	}
	watched.Bind, watched.Advertise = c.Watch()
	return cluster.New(cluster.Config{Peer: peer, Dir: c.Notify.Dir, Sealer: sealer, Log: a.log, Metrics: a.registry, Home: home, Watch: watched})
}

// placeOf is where this host stands.
func placeOf(c *config.Config) notify.Place {
	return notify.Place{Zone: c.Node.Zone, Labels: c.Node.Labels}
}

// stateHost tells the peers what this host is.
func (a *Agent) stateHost(c *config.Config, started time.Time) {
	if a.cluster != nil {
		a.cluster.Host(ledger.Host{Zone: c.Node.Zone, Labels: c.Node.Labels, Version: a.version, Started: started, Boot: a.memory.boot})
	}
}

// fileSubscriptions are those of this host's file as the notifier has them.
func (a *Agent) fileSubscriptions() []notify.Subscription {
	return slices.DeleteFunc(a.notifier.Held(), func(s notify.Subscription) bool { return s.Origin != notify.OriginFile })
}

// closeUnstarted closes the files of an agent that will never run.
func (a *Agent) closeUnstarted() error {
	a.past.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.notifier.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("close the outbox: %w", err)
	}
	return nil
}

// Start sets everything going and returns; Ready tells when the sources have stated what they see, and Stop ends it.
// It is called once.
func (a *Agent) Start() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.mu.Lock()
	a.started = time.Now()
	a.stateHost(a.config, a.started)
	a.mu.Unlock()

	// The cluster outlives the notifier, which hands deliveries over and tells what was settled to its last moment; the
	// notifier outlives the loop, and the loop the sources, so that nothing that was seen is lost on the way down.
	if a.cluster != nil {
		a.background("the cluster", a.cluster.Run)
	}
	a.background("the notifier", a.notifier.Run)
	a.background("the history", a.past.Run)
	a.background("the loop", a.loop.run)
	a.background("the API", a.server.Run)

	running, cancel := context.WithCancel(context.Background())
	a.running = running
	a.onStop(func() {
		cancel()
		for _, s := range a.supervised() {
			s.stop()
		}
	})
	a.swap(a.pending)
	a.pending = nil
	a.background("the memory of this host", a.remember)
	a.background("the credentials", a.renewCredentials)
	if a.cluster != nil { // which looks at the sources
		a.background("the restatement", a.giveUpFormer)
	}
	return nil
}

func (a *Agent) onStop(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stops = append(a.stops, f)
}

// background runs f until Stop reaches it; an end before that is a failure of the agent.
func (a *Agent) background(what string, f func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); ctx.Err() == nil {
			a.failed <- fmt.Errorf("%s ended: %w", what, err)
		} else if err != nil && !errors.Is(err, context.Canceled) {
			a.log.Error("a part did not end cleanly", "part", what, "error", err)
		}
	}()
	a.onStop(func() {
		cancel()
		<-done
	})
}

// swap replaces the sources that are not kept. The caller holds reloading.
func (a *Agent) swap(sources []built) {
	for _, b := range sources {
		if b.keep {
			continue
		}
		name := b.spec.name
		if old := a.supervise(name, nil); old != nil {
			old.retire()
		}
		if b.source == nil {
			// What it stated is no longer watched: it leaves the topology, and its alarms end.
			a.loop.queue(name).offer(correlate.Delta{Full: true, Renewed: true})
			continue
		}
		a.loop.queue(name).offer(correlate.Delta{Renewed: true})
		s := newSupervisor(b.source, a.loop.queue(name), a.self, a.log, time.Now)
		s.start(a.running)
		a.supervise(name, s)
	}
}

// supervise puts s (nil: nobody) into the place of the source's supervisor and returns the one of before.
func (a *Agent) supervise(name string, s *supervisor) (before *supervisor) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before = a.supervisors[name]
	delete(a.supervisors, name)
	if s != nil {
		a.supervisors[name] = s
	}
	return before
}

// supervised lists the running sources in the order of their urgency.
func (a *Agent) supervised() []*supervisor {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]*supervisor, 0, len(a.supervisors))
	for _, spec := range a.specs {
		if s := a.supervisors[spec.name]; s != nil {
			out = append(out, s)
		}
	}
	return out
}

// stateSelf puts this host and the parts of paramedic into the topology.
func (a *Agent) stateSelf(c *config.Config, full bool) {
	facts := hosthw.Facts(hw.Root{})
	facts["zone"], facts["version"] = c.Node.Zone, a.version
	for k, v := range c.Node.Labels {
		facts["label."+k] = v
	}
	set := []correlate.Resource{
		{ID: hostID(c), Name: c.Node.Name, Facts: facts},
		{ID: selfResource("outbox"), Name: "outbox"},
	}
	for _, spec := range a.specs {
		set = append(set, correlate.Resource{ID: selfResource(spec.name), Name: spec.name + " source"})
	}
	d := correlate.Delta{Full: full, Set: set}
	if full {
		d.Events = a.memory.events(hostID(c), time.Now())
	}
	a.self.offer(d)
}

// report takes the notifier's and the cluster's events about themselves.
func (a *Agent) report(e correlate.Event) {
	q := a.self
	if e.Source == ledger.Source {
		q = a.told
	}
	q.offer(correlate.Delta{
		Set:    []correlate.Resource{{ID: e.Resource, Name: e.Resource.Name()}},
		Events: []correlate.Event{e},
	})
}

// Failed delivers the error of a part that ended although nobody stopped it; the agent should then be stopped.
func (a *Agent) Failed() <-chan error { return a.failed }

// Stop ends the agent, the last started part first, and returns when all is durable or ctx ends.
func (a *Agent) Stop(ctx context.Context) error {
	a.stopOnce.Do(func() {
		go func() {
			defer close(a.stopped)
			a.reloading.Lock() // a reload that runs comes to its end, and none begins
			defer a.reloading.Unlock()
			a.goodbye(ctx)
			a.mu.Lock()
			stops := a.stops
			a.stopping = true
			a.mu.Unlock()
			for _, stop := range slices.Backward(stops) {
				stop()
			}
		}()
	})
	select {
	case <-a.stopped:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop: not everything ended in time: %w", ctx.Err())
	}
}

// Why a reload is refused as a whole.
var (
	errRestart  = errors.New("can't change while the agent runs: restart it")
	errStopping = errors.New("the agent is stopping")
)

// needRestart names the keys that differ and are read at start only.
func needRestart(old, c *config.Config) []string {
	var keys []string
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"node.name", old.Node.Name == c.Node.Name},
		{"cluster.label", old.Cluster.Label == c.Cluster.Label},
		{"cluster.bind", old.Cluster.Bind == c.Cluster.Bind},
		{"cluster.advertise", old.Cluster.Advertise == c.Cluster.Advertise},
		{"cluster.watch", old.Cluster.Watch == c.Cluster.Watch},
		{"cluster.witness", old.Cluster.Witness == c.Cluster.Witness},
		{"cluster.detect", old.Cluster.Detect == c.Cluster.Detect},
		{"cluster.join", slices.Equal(old.Cluster.Join, c.Cluster.Join)},
		{"cluster.key_file", old.Cluster.KeyFile == c.Cluster.KeyFile},
		{"cluster.secrets_key_file", old.Cluster.SecretsKeyFile == c.Cluster.SecretsKeyFile},
		{"cluster.insecure", old.Cluster.Insecure == c.Cluster.Insecure},
		{"api.socket", old.API.Socket == c.API.Socket},
		{"api.listen", old.API.Listen == c.API.Listen},
		{"api.tls", (old.API.TLS.Certificate == nil) == (c.API.TLS.Certificate == nil)},
		{"notify.dir", old.Notify.Dir == c.Notify.Dir},
		{"notify.sol", old.Notify.SOL == c.Notify.SOL},
		{"notify.retry.max_age", old.Notify.Retry.MaxAge == c.Notify.Retry.MaxAge},
		{"log.format", old.Log.Format == c.Log.Format},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// sameExit reports whether requests leave as before.
func sameExit(old, c *config.Config) bool {
	return slices.Equal(old.Notify.AllowCallbacks, c.Notify.AllowCallbacks) && sameProxy(old.Proxy(), c.Proxy())
}

func sameProxy(a, b *notify.Proxy) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Address == b.Address && a.Credentials.Equal(b.Credentials)
}

// Reload takes over a new configuration: all of it, or on an error none.
func (a *Agent) Reload(c *config.Config) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	a.mu.Lock()
	old, stopping := a.config, a.stopping
	a.mu.Unlock()
	if stopping {
		return errStopping
	}
	if keys := needRestart(old, c); len(keys) > 0 {
		return fmt.Errorf("reload: %s %w", strings.Join(keys, ", "), errRestart)
	}
	sources, err := buildSources(a.specs, old, c, a.log)
	if err != nil {
		return err
	}
	// From here on nothing can fail but the storing of the subscriptions, which comes first.
	if err := a.notifier.SetFile(c.Subscriptions()); err != nil {
		return fmt.Errorf("reload the subscriptions: %w", err)
	}
	if !sameExit(old, c) {
		a.notifier.SetExit(c.Notify.AllowCallbacks, c.Proxy())
	}
	a.notifier.SetPlace(c.Node.Name, placeOf(c))
	a.mu.Lock()
	a.config = c
	started := a.started
	a.mu.Unlock()
	if a.cluster != nil {
		a.cluster.SetPolicies(c.Policies())
		a.cluster.File(a.fileSubscriptions())
		a.stateHost(c, started)
		if !slices.EqualFunc(old.Cluster.Keys, c.Cluster.Keys, func(x, y gossip.CipherKey) bool { return bytes.Equal(x, y) }) {
			if err := a.cluster.SetKeys(c.Cluster.Keys); err != nil {
				a.log.Error("the keys of the key file are not in use", "error", err)
			}
		}
	}
	a.checkCertificate(&c.API)
	a.server.SetAccess(accessOf(&c.API))
	a.notifier.SetOwners(ownersOf(&c.API))
	a.swap(sources)
	a.stateSelf(c, false)
	a.monitors.SetMappings(c.Mappings())
	a.past.SetBounds(c.History.MaxAlarms, c.History.MaxAge)
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	refine := func(now time.Time) {
		a.loop.act(a.loop.engine.SetPolicies(now, c.Policies()), now)
		a.loop.act(a.loop.engine.SetRules(now, southbound.Rules(c.Mappings())), now)
	}
	if err := a.loop.call(ctx, refine); err != nil {
		return fmt.Errorf("reload the policies: the loop does not answer: %w", err)
	}
	a.log.Info("configuration reloaded")
	return nil
}

// sightFailed is what a source is called that has ended and is started again.
const sightFailed = "failed"

// sightOf says in one word how a source is, and why.
func sightOf(h hw.Health, failure string) (sight, text string) {
	if failure != "" {
		return sightFailed, failure
	}
	return h.Sight.String(), h.Text
}
