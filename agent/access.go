package agent

import (
	"crypto/x509"
	"time"

	"github.com/paramedic-ha/paramedic/agent/access"
	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/config"
	"github.com/paramedic-ha/paramedic/notify"
)

// accessOf is who may call over TCP, as the configuration says it.
func accessOf(c *config.API) api.Access {
	d := new(access.Directory)
	for _, t := range c.Tokens {
		i := access.Identity{Name: t.Name, Role: notify.Role(t.Role), Projects: t.Projects}
		for _, token := range t.Tokens {
			d.AddToken(token, i)
		}
	}
	for _, cert := range c.Certificates {
		d.AddCertificate(cert.Subject, access.Identity{Name: cert.Name, Role: notify.Role(cert.Role), Projects: cert.Projects})
	}
	return api.Access{Directory: d, Certificate: c.TLS.Certificate, ClientCAs: c.TLS.ClientCAs}
}

// ownersOf are what consumers may hear; nil where the configuration names no consumer, and so says nothing of them.
func ownersOf(c *config.API) notify.Owners {
	owners := accessOf(c).Directory.Consumers()
	if len(owners) == 0 {
		return nil
	}
	return owners
}

// soon is how long before its end a certificate is complained about.
const soon = 14 * 24 * time.Hour

// checkCertificate warns of a certificate that clients don't accept, or will not for long: without it the API would not answer, so
// it is served all the same.
func (a *Agent) checkCertificate(c *config.API) {
	if c.TLS.Certificate == nil {
		return
	}
	leaf, err := x509.ParseCertificate(c.TLS.Certificate.Certificate[0])
	switch now := time.Now(); {
	case err != nil: // it made a pair with its key
	case now.Before(leaf.NotBefore):
		a.log.Warn("the certificate of the API is not valid yet", "not_before", leaf.NotBefore)
	case now.After(leaf.NotAfter):
		a.log.Warn("the certificate of the API has expired", "not_after", leaf.NotAfter)
	case now.Add(soon).After(leaf.NotAfter):
		a.log.Warn("the certificate of the API expires soon", "not_after", leaf.NotAfter)
	}
}
