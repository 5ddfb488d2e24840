package correlate

import (
	"fmt"
	"slices"
	"time"
)

// What an administrator says of an alarm beside that it is known (Ack): a comment, and that it is over.
//
// A condition whose source goes on saying that it holds is dismissed then: it counts for nothing in the health of its
// resource and raises no alarm, until the source says that it is well, or with another severity that it is not, or the
// resource leaves. So the word outlives a restatement, and hides nothing that is new. In a k-of-n group it is not relied on
// while another member has failed.

// Comment keeps what somebody wrote to a standing alarm; it makes no revision. Said again it changes nothing. The error is
// ErrNoAlarm when nothing stands under that id.
func (e *Engine) Comment(now time.Time, id string, c Comment) (Effects, error) {
	r := e.alarms[id]
	if r == nil {
		return Effects{}, fmt.Errorf("comment on alarm %q: %w", id, ErrNoAlarm)
	}
	e.begin(now)
	if !r.alarm.Said(c) {
		a := *r.alarm
		a.Comments = WithComment(a.Comments, c)
		r.alarm = &a
		e.saved = append(e.saved, r)
	}
	return e.finish(), nil
}

// Said reports whether an alarm has a comment.
func (a *Alarm) Said(c Comment) bool {
	return slices.ContainsFunc(a.Comments, func(o Comment) bool { return o.By == c.By && o.Text == c.Text && o.At.Equal(c.At) })
}

// WithComment is a list of comments with one more, by time; of too many the oldest goes.
func WithComment(list []Comment, c Comment) []Comment {
	at := len(list)
	for at > 0 && c.At.Before(list[at-1].At) {
		at--
	}
	all := slices.Insert(slices.Clone(list), at, c)
	return all[max(0, len(all)-MaxComments):]
}

// Clear ends a standing alarm on an administrator's word, and with it what is correlated under it. A condition that holds by
// the word of its source is dismissed. The error is ErrNoAlarm when nothing stands under that id.
func (e *Engine) Clear(now time.Time, id, by, comment string) (Effects, error) {
	r := e.alarms[id]
	if r == nil {
		return Effects{}, fmt.Errorf("clear alarm %q: %w", id, ErrNoAlarm)
	}
	e.begin(now)
	all := r.family(nil)
	for _, r := range all {
		r.word = &HandClear{By: by, Comment: comment, At: now}
		r.dismiss(e)
	}
	eff := e.finish()
	for _, r := range all {
		r.word = nil
	}
	return eff, nil
}

// family appends r and what it explains, as far as it stands.
func (r *record) family(all []*record) []*record {
	if r.alarm != nil {
		all = append(all, r)
	}
	for _, c := range r.children {
		all = c.family(all)
	}
	return all
}

// dismiss takes the effect from what a source says; what a source will not say again just ends.
func (r *record) dismiss(e *Engine) {
	switch {
	case !r.own || r.dismissed: // a failed group alone holds it: that ends with its members
		e.seed(r.node)
	case r.def.Mode != Level || r.def.AckClears || r.node.lost:
		r.end(e, ReasonByHand)
	default:
		r.dismissed, r.reason = true, ReasonByHand
		e.seed(r.node)
	}
}

// believe ends that a condition is dismissed, and reports whether it was.
func (r *record) believe(e *Engine) bool {
	if !r.dismissed {
		return false
	}
	r.dismissed = false
	if r.kept != nil {
		a, word := *r.kept, *r.kept.ByHand
		word.Dismissed = false
		a.ByHand, r.kept = &word, nil
		e.released = append(e.released, &a)
	}
	e.seed(r.node)
	return true
}

// sayByHand fills in a revision that clears an alarm by hand.
func (r *record) sayByHand(a *Alarm) {
	word := *r.word
	if word.Asked = r.asked; r.dismissed && r.kept == nil {
		word.Dismissed, r.kept = true, a
	}
	a.ByHand, a.ClearReason = &word, ReasonByHand
	a.Text += "; cleared by hand by " + word.By
	if word.Comment != "" {
		a.Text += ": " + word.Comment
	}
}

// restoreDismissed takes up an alarm that was cleared by hand in the last run.
func (e *Engine) restoreDismissed(r *record, a *Alarm) {
	r.key, r.own, r.dismissed, r.kept, r.alarm = a.Key, true, true, a, nil
	r.source, r.asked, r.reason = a.Source, a.ByHand.Asked, ReasonByHand
	r.occurred, r.observed = a.Times.Occurred, a.Times.Observed
	r.node.refresh()
	r.node.state = r.node.own
}

// Dismissed lists the alarms that were cleared by hand and whose source has not said yet that all is well, by resource and condition.
func (e *Engine) Dismissed() []*Alarm {
	var all []*Alarm
	for _, n := range e.nodes {
		for _, r := range n.records {
			if r.kept != nil {
				all = append(all, r.kept)
			}
		}
	}
	slices.SortFunc(all, func(a, b *Alarm) int { return compareKeys(a.Key, b.Key) })
	return all
}
