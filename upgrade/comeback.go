package upgrade

import "time"

// Comeback is the rollback by which a release runs that had run before.
type Comeback struct {
	// From is the version that was left for it.
	From string `json:"from"`
	// By is who asked, ByBootGuard where nobody did, and OrderID the request.
	By      string `json:"by,omitempty"`
	OrderID string `json:"order_id,omitempty"`
	// AllowedBy is the rule by which it was allowed.
	AllowedBy string    `json:"allowed_by,omitempty"`
	At        time.Time `json:"at"`
}

// comeback is what a says of the release that it ends with, nil if that came
// by an upgrade.
func (a Attempt) comeback() *Comeback {
	c := &Comeback{From: a.From.Version, By: a.By, OrderID: a.OrderID, AllowedBy: a.AllowedBy, At: a.Updated}
	switch {
	case a.Abandoned: // its direction is that of what is taken back
		c.From = a.To.Version
	case !a.Action.back():
		return nil
	}
	return c
}
