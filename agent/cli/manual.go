package cli

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/alecthomas/kong"
	mangokong "github.com/alecthomas/mango-kong"
	"github.com/muesli/roff"
)

// manualCommand is for the package's build. The page is of the day that SOURCE_DATE_EPOCH names, so that a build can be repeated.
type manualCommand struct{}

// Run prints the manual page, made of the grammar itself.
func (manualCommand) Run(s *session, app *kong.Kong) error {
	at := s.now()
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("read SOURCE_DATE_EPOCH: want seconds since 1970: %w", err)
		}
		at = time.Unix(seconds, 0)
	}
	page := mangokong.NewManPage(8, app.Model)
	for _, part := range [][2]string{
		{"Environment", "PARAMEDIC_SERVER is the agent to talk to, as --server. NO_COLOR, when it is set, as --no-color."},
		{"Files", "/etc/paramedic/paramedic.yaml is the configuration, /run/paramedic/api.sock the agent's API, /var/lib/paramedic its state. /usr/share/doc/paramedic holds the guides."},
		{"Exit status", "0: good. 1: the answer is bad (invalid, not found, refused). 2: wrong usage. 3: the agent can't be reached."},
	} {
		page.WithSection(part[0], part[1])
	}
	_, err := fmt.Fprint(s.Stdout, page.Build(&dated{roff.NewDocument(), at.UTC()}))
	return err
}

// dated is a page of a certain day.
type dated struct {
	*roff.Document
	at time.Time
}

func (d *dated) Heading(section uint, title, description string, _ time.Time) {
	d.Document.Heading(section, title, description, d.at)
}
