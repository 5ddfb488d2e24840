package api

import "github.com/paramedic-ha/paramedic/notify/format"

// The types of VNF fault management (ETSI GS NFV-SOL 003 7.5); the alarm is format.SOLAlarm.

// SOLVersions is ApiVersionInformation.
type SOLVersions struct {
	Prefix   string       `json:"uriPrefix"`
	Versions []SOLVersion `json:"apiVersions"`
}

// SOLVersion is one version of the API.
type SOLVersion struct {
	Version    string `json:"version"`
	Deprecated bool   `json:"isDeprecated"`
}

// SOLModifications is AlarmModifications.
type SOLModifications struct {
	AckState string `json:"ackState"`
}

// SOLSubscriptionRequest is FmSubscriptionRequest.
type SOLSubscriptionRequest struct {
	Filter         *SOLNotificationsFilter `json:"filter,omitempty"`
	CallbackURI    string                  `json:"callbackUri"`
	Authentication *SOLAuthentication      `json:"authentication,omitempty"`
	Verbosity      string                  `json:"verbosity,omitempty"`
}

// SOLSubscription is FmSubscription. It never carries what notifications are authorised with.
type SOLSubscription struct {
	ID          string                  `json:"id"`
	Filter      *SOLNotificationsFilter `json:"filter,omitempty"`
	CallbackURI string                  `json:"callbackUri"`
	Links       map[string]format.Link  `json:"_links"`
}

// SOLNotificationsFilter is FmNotificationsFilter, and fault types beside it.
type SOLNotificationsFilter struct {
	VNFs                *SOLInstanceFilter `json:"vnfInstanceSubscriptionFilter,omitempty"`
	NotificationTypes   []string           `json:"notificationTypes,omitempty"`
	FaultyResourceTypes []string           `json:"faultyResourceTypes,omitempty"`
	PerceivedSeverities []string           `json:"perceivedSeverities,omitempty"`
	EventTypes          []string           `json:"eventTypes,omitempty"`
	ProbableCauses      []string           `json:"probableCauses,omitempty"`
	FaultTypes          []string           `json:"faultTypes,omitempty"`
}

// SOLInstanceFilter is VnfInstanceSubscriptionFilter, as far as anything is known of a VNF here.
type SOLInstanceFilter struct {
	IDs []string `json:"vnfInstanceIds,omitempty"`
}

// SOLAuthentication is SubscriptionAuthentication: the ways in which a consumer lets notifications in.
type SOLAuthentication struct {
	Types []string  `json:"authType"` // BASIC, OAUTH2_CLIENT_CREDENTIALS, TLS_CERT
	Basic *SOLBasic `json:"paramsBasic,omitempty"`
	OAuth *SOLOAuth `json:"paramsOauth2ClientCredentials,omitempty"`
}

// SOLBasic is a user and password.
type SOLBasic struct {
	User     string `json:"userName"`
	Password string `json:"password"`
}

// SOLOAuth is what a token would be asked for with.
type SOLOAuth struct {
	ClientID string `json:"clientId"`
	Secret   string `json:"clientPassword"`
	Endpoint string `json:"tokenEndpoint"`
}
