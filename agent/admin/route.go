package admin

import (
	"context"
	"net/http"
	"time"
)

// route is a handler behind a role.
type route struct {
	server *Server
	role   Role
	next   http.Handler
}

type callerKey struct{}

// CallerOf names who makes a call, as in Grant.Subject, from the context of
// the request; empty outside of an admin listener.
func CallerOf(ctx context.Context) string {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who.name
}

// RoleOf is what who makes a call may do; None outside of an admin listener.
func RoleOf(ctx context.Context) Role {
	who, _ := ctx.Value(callerKey{}).(caller)
	return who.role
}

func (t *route) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s, role := t.server, t.role
	if RoleOf(r.Context()) < role {
		s.Demand(w, r, role)
		return
	}
	limit := QuickTime
	switch role {
	case Read:
		if !s.take(w, r, s.reading, costRead) {
			return
		}
		defer func() { <-s.reading }()
	case Operate:
		if !s.sameOrigin(r) {
			s.refuse(w, r, http.StatusForbidden, refused{reason: ReasonOrigin, caller: CallerOf(r.Context())}, "a page of another site may not ask for this")
			return
		}
		if !s.take(w, r, s.operating, costOperate) {
			return
		}
		defer func() { <-s.operating }()
		limit = OperateTime
	default:
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	// A client that does not read its answer must not keep the handler. Where
	// the connection has no deadlines it is the context that ends it.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(limit))
	t.next.ServeHTTP(w, r.WithContext(ctx))
}

// take takes a slot and the rest of the cost: one was taken for the call.
func (s *Server) take(w http.ResponseWriter, r *http.Request, slots chan struct{}, cost int) bool {
	if !s.guard.Spend(w, r, cost-1) {
		return false
	}
	select {
	case slots <- struct{}{}:
		return true
	default:
		s.guard.Busy(w, r)
		return false
	}
}

// sameOrigin refuses what another site's page makes a browser ask for, by
// whatever method: a GET of a profile costs half a minute of the process, too.
func (s *Server) sameOrigin(r *http.Request) bool {
	asked := *r
	asked.Method = http.MethodPost // safe methods are not looked at
	return s.origin.Check(&asked) == nil
}
