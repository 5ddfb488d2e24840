package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// maxConditions bounds a filter expression.
const maxConditions = 32

// The attributes that a filter may name: all that the types have, but for links.
var (
	solAlarmAttributes = []string{
		"id", "managedObjectId", "vnfcInstanceIds", "rootCauseFaultyResource/faultyResource/vimConnectionId",
		"rootCauseFaultyResource/faultyResource/resourceId", "rootCauseFaultyResource/faultyResource/vimLevelResourceType",
		"rootCauseFaultyResource/faultyResourceType", "alarmRaisedTime", "alarmChangedTime", "alarmClearedTime", "alarmAcknowledgedTime",
		"ackState", "perceivedSeverity", "eventTime", "eventType", "faultType", "probableCause", "isRootCause", "correlatedAlarmIds", "faultDetails",
	}
	solSubscriptionAttributes = []string{
		"id", "callbackUri", "filter/vnfInstanceSubscriptionFilter/vnfInstanceIds", "filter/notificationTypes", "filter/faultyResourceTypes",
		"filter/perceivedSeverities", "filter/eventTypes", "filter/probableCauses", "filter/faultTypes",
	}
)

// solExpression is an attribute-based filter (ETSI GS NFV-SOL 013 5.2): all of its conditions must hold. Empty passes all.
type solExpression []solCondition

type solCondition struct {
	operator  string
	attribute []string // its path
	values    []string
}

// The operators, and whether they take several values.
var solOperators = map[string]bool{
	"eq": false, "neq": false, "gt": false, "gte": false, "lt": false, "lte": false, "in": true, "nin": true, "cont": true, "ncont": true,
}

func readSOLFilter(q *query, attributes []string) solExpression {
	given := q.text("filter")
	if given == "" {
		return nil
	}
	e, err := parseSOLFilter(given, attributes)
	if err != nil {
		q.fail("parameter filter: %v", err)
	}
	return e
}

// parseSOLFilter reads (operator,attribute,value…);(…).
func parseSOLFilter(text string, attributes []string) (solExpression, error) {
	var e solExpression
	for rest := text; ; {
		words, left, err := solWords(rest)
		if err != nil {
			return nil, fmt.Errorf("%w at byte %d: want for instance (eq,perceivedSeverity,CRITICAL);(in,eventType,QOS_ALARM,EQUIPMENT_ALARM)", err, len(text)-len(left))
		}
		if len(words) < 3 {
			return nil, fmt.Errorf("(%s) has no value: want (operator,attribute,value)", strings.Join(words, ","))
		}
		several, known := solOperators[words[0]]
		switch {
		case !known:
			return nil, fmt.Errorf("operator %q is not known: want eq, neq, gt, gte, lt, lte, in, nin, cont or ncont", words[0])
		case !slices.Contains(attributes, words[1]):
			return nil, fmt.Errorf("attribute %q is not known here: the attributes are %s", words[1], strings.Join(attributes, ", "))
		case !several && len(words) > 3:
			return nil, fmt.Errorf("operator %s takes one value, not %d: use in or nin", words[0], len(words)-2)
		case len(e) == maxConditions:
			return nil, fmt.Errorf("there are more than %d conditions", maxConditions)
		}
		e = append(e, solCondition{words[0], strings.Split(words[1], "/"), words[2:]})
		if left == "" {
			return e, nil
		}
		if rest = strings.TrimPrefix(left, ";"); rest == left {
			return nil, fmt.Errorf("%q stands behind a condition: join them with a semicolon", left)
		}
	}
}

// solWords reads one condition in parentheses. A value in apostrophes may hold anything, an apostrophe twice.
func solWords(text string) (words []string, rest string, err error) {
	rest, ok := strings.CutPrefix(text, "(")
	if !ok {
		return nil, text, fmt.Errorf("there is no parenthesis")
	}
	for {
		var word string
		if quoted, ok := strings.CutPrefix(rest, "'"); ok {
			if word, rest, ok = solQuoted(quoted); !ok {
				return nil, rest, fmt.Errorf("an apostrophe is not closed")
			}
		} else {
			end := strings.IndexAny(rest, ",)'(")
			if end < 0 || rest[end] == '\'' || rest[end] == '(' {
				return nil, rest[max(0, end):], fmt.Errorf("a condition is not closed")
			}
			word, rest = rest[:end], rest[end:]
		}
		words = append(words, word)
		if left, ok := strings.CutPrefix(rest, ","); ok {
			rest = left
		} else if left, ok := strings.CutPrefix(rest, ")"); ok {
			return words, left, nil
		} else {
			return nil, rest, fmt.Errorf("there is neither a comma nor a parenthesis")
		}
	}
}

func solQuoted(text string) (word, rest string, ok bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(text, "'")
		if !found {
			return "", text, false
		}
		b.WriteString(before)
		if !strings.HasPrefix(after, "'") {
			return b.String(), after, true
		}
		b.WriteByte('\'')
		text = after[1:]
	}
}

// pick returns the JSON of v, which must be an object, if the expression passes it.
func (e solExpression) pick(v any) (json.RawMessage, bool) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, false
	}
	if len(e) == 0 {
		return body, true
	}
	var tree map[string]any
	if err := json.Unmarshal(body, &tree); err != nil {
		return nil, false
	}
	for _, c := range e {
		if !c.match(tree) {
			return nil, false
		}
	}
	return body, true
}

// match judges one attribute; of a list, whether any of its entries passes. One that is not there has no value.
func (c solCondition) match(tree map[string]any) bool {
	var at any = tree
	for _, name := range c.attribute {
		object, _ := at.(map[string]any)
		at = object[name]
	}
	entries, isList := at.([]any)
	if !isList && at != nil {
		entries = []any{at}
	}
	has := func(f func(got, want string) bool) bool {
		return slices.ContainsFunc(entries, func(v any) bool {
			return slices.ContainsFunc(c.values, func(want string) bool { return f(fmt.Sprint(v), want) })
		})
	}
	same := func(got, want string) bool { return solCompare(got, want) == 0 }
	switch c.operator {
	case "eq", "in":
		return has(same)
	case "neq", "nin":
		return !has(same)
	case "cont":
		return has(strings.Contains)
	case "ncont":
		return !has(strings.Contains)
	case "gt":
		return has(func(got, want string) bool { return solCompare(got, want) > 0 })
	case "gte":
		return has(func(got, want string) bool { return solCompare(got, want) >= 0 })
	case "lt":
		return has(func(got, want string) bool { return solCompare(got, want) < 0 })
	default:
		return has(func(got, want string) bool { return solCompare(got, want) <= 0 })
	}
}

// solCompare orders times by what they are, and all else by its letters.
func solCompare(a, b string) int {
	x, errX := time.Parse(time.RFC3339Nano, a)
	y, errY := time.Parse(time.RFC3339Nano, b)
	if errX == nil && errY == nil {
		return x.Compare(y)
	}
	return cmp.Compare(a, b)
}
