package api

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What a caller over TCP may ask at most, in requests a second and at once. The socket has no limit.
const (
	knownRate     = 50
	knownBurst    = 200
	strangerRate  = 5
	strangerBurst = 20
	// maxBudgets bounds what is kept of strangers; those beyond share one budget.
	maxBudgets = 4096
	// maxStreams are those of one identity; maxAllStreams leaves some of maxWatchers to the socket.
	maxStreams    = 8
	maxAllStreams = 48
)

// limits counts what callers ask.
type limits struct {
	mu      sync.Mutex
	budgets map[string]*rate.Limiter // of identities by "=name", of strangers by their network
	shared  *rate.Limiter
	swept   time.Time      // when budgets were last looked through
	streams map[string]int // open ones, by identity
	open    int            // all of them
}

func newLimits() *limits {
	return &limits{
		budgets: make(map[string]*rate.Limiter), shared: rate.NewLimiter(strangerRate, strangerBurst),
		streams: make(map[string]int),
	}
}

// wait is how long a caller must wait before its call is answered; zero: it need not.
func (l *limits) wait(c *call, now time.Time) time.Duration {
	if c.local {
		return 0
	}
	key, allowed, burst := "="+c.identity.name, rate.Limit(knownRate), knownBurst
	if c.identity.role == "" {
		key, allowed, burst = network(c.addr).String(), strangerRate, strangerBurst
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	budget := l.budgets[key]
	if budget == nil {
		budget = l.newBudget(key, allowed, burst, now)
	}
	if budget.AllowN(now, 1) {
		return 0
	}
	return time.Duration(math.Ceil(1-budget.TokensAt(now))) * time.Second / time.Duration(allowed)
}

func (l *limits) newBudget(key string, allowed rate.Limit, burst int, now time.Time) *rate.Limiter {
	if len(l.budgets) >= maxBudgets && now.Sub(l.swept) >= time.Second {
		l.swept = now
		for k, b := range l.budgets {
			if b.TokensAt(now) >= float64(b.Burst()) { // a new one would be the same
				delete(l.budgets, k)
			}
		}
	}
	if len(l.budgets) >= maxBudgets && key[0] != '=' {
		return l.shared
	}
	b := rate.NewLimiter(allowed, burst)
	l.budgets[key] = b
	return b
}

var errManyStreams = &refusal{
	http.StatusServiceUnavailable, "too-many", "too many streams",
	fmt.Sprintf("%d streams are open, which is the most: try again", maxAllStreams),
}

// stream takes one of a caller's streams; the error is its refusal.
func (l *limits) stream(c *call) (end func(), err error) {
	if c.local {
		return func() {}, nil
	}
	name := c.identity.name
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= maxAllStreams {
		return nil, errManyStreams
	}
	if l.streams[name] >= maxStreams {
		return nil, &refusal{
			http.StatusTooManyRequests, "too-many-requests", "the caller asks too much",
			fmt.Sprintf("%d of your streams are open, which is the most: end one", maxStreams),
		}
	}
	l.open++
	l.streams[name]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
		if l.streams[name]--; l.streams[name] == 0 {
			delete(l.streams, name)
		}
	}, nil
}

func tooManyRequests(w http.ResponseWriter, wait time.Duration) error {
	seconds := max(1, int(math.Ceil(wait.Seconds())))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	return &refusal{
		http.StatusTooManyRequests, "too-many-requests", "the caller asks too much",
		fmt.Sprintf("ask again in %d s; %d requests a second are answered, %d of who does not say who it is", seconds, knownRate, strangerRate),
	}
}
