package hw

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// looks gives when rounds of a minute look within span, with prompts given at the times.
func looks(t *testing.T, span time.Duration, prompts ...time.Duration) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), span)
	defer cancel()
	p := NewPrompt()
	start := time.Now()
	for _, at := range prompts {
		time.AfterFunc(at, p.Give)
	}
	r := NewRounds(time.Minute, p)
	defer r.Stop()
	var got []time.Duration
	for {
		if err := r.Next(ctx); err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			return got
		}
		got = append(got, time.Since(start))
	}
}

func TestAPromptIsFollowedAtOnceAndTwiceMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := []time.Duration{time.Second, time.Second + soon, time.Second + settle, time.Minute}
		if diff := cmp.Diff(want, looks(t, 90*time.Second, time.Second)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAStormOfPromptsIsTenLooksASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var prompts []time.Duration
		for i := range 5000 {
			prompts = append(prompts, time.Duration(i)*200*time.Microsecond)
		}
		got := looks(t, 30*time.Second, prompts...)
		if len(got) < 10 || len(got) > 14 {
			t.Errorf("looked %d times", len(got))
		}
		if last := got[len(got)-1]; last < time.Second {
			t.Errorf("the last look was after %v: too early for what the last prompt was about", last)
		}
	})
}

func TestNobodyIsPromptedWithoutOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		Prompt(nil).Give()
		r := NewRounds(time.Minute, nil)
		defer r.Stop()
		start := time.Now()
		if err := r.Next(t.Context()); err != nil || time.Since(start) != time.Minute {
			t.Errorf("looked after %v, error %v", time.Since(start), err)
		}
	})
}
