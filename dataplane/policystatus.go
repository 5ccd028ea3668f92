package dataplane

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ringway/conntrack"
	"ringway/packet"
	"ringway/policy"
)

// PolicyOff is the mode of a table set without a policy section.
const PolicyOff = "off"

// PolicyStatus is how policy is used, counted since the agent started.
type PolicyStatus struct {
	Mode       string // PolicyOff, PolicyEnforce, PolicyAudit
	Identities int
	Addresses  int // that have an identity

	// New flows, queries, and flows that were decided anew, by verdict.
	Allowed, Denied, Audited uint64
	Redecided                uint64 // of these, flows that were decided anew
}

// EndpointPolicyStatus is the policy of one local endpoint.
type EndpointPolicyStatus struct {
	Endpoint        string
	Identity        uint32 // 0: none is known yet; the endpoint gets and sends nothing
	Namespace       string
	Labels          map[string]string
	Ingress, Egress DirectionPolicyStatus
}

// DirectionPolicyStatus is one direction of it.
type DirectionPolicyStatus struct {
	Default policy.Action // of what no rule matches
	Rules   []PolicyRuleStatus
}

// PolicyRuleStatus is a rule and the new flows of the endpoint that it decided
// since it is there.
type PolicyRuleStatus struct {
	Rule  policy.Rule
	Flows uint64
}

// Policies of the local endpoints, by name; without a policy section there are
// none.
func (d *Dataplane) Policies() []EndpointPolicyStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.build.policy.current
	if p == nil {
		return nil
	}
	identities := identitiesByID(d.build.policy.section)
	out := []EndpointPolicyStatus{}
	for _, r := range d.store.List() {
		e := &p.endpoints[r.Slot]
		id := identities[e.identity]
		out = append(out, EndpointPolicyStatus{
			Endpoint: r.Name, Identity: e.identity, Namespace: id.Namespace, Labels: id.Labels,
			Ingress: e.ingress.status(), Egress: e.egress.status(),
		})
	}
	return out
}

func identitiesByID(p *Policy) map[uint32]Identity {
	out := make(map[uint32]Identity, len(p.Identities))
	for _, id := range p.Identities {
		out[id.ID] = id
	}
	return out
}

func (d *directionPolicy) status() DirectionPolicyStatus {
	s := DirectionPolicyStatus{Default: policy.Allow}
	if d.compiled == nil {
		return s
	}
	if d.compiled.spec.DefaultDeny {
		s.Default = policy.Deny
	}
	for i, r := range d.compiled.spec.Rules {
		s.Rules = append(s.Rules, PolicyRuleStatus{Rule: r, Flows: d.flows[i].Load()})
	}
	return s
}

// policyStatus is the policy line of status. The lock is held.
func (d *Dataplane) policyStatus(views map[uint8]workerView) PolicyStatus {
	s := PolicyStatus{Mode: PolicyOff}
	var sum policeCounts
	for _, v := range views {
		sum.add(v.policed)
	}
	s.Allowed, s.Denied, s.Audited, s.Redecided = sum.allowed, sum.denied, sum.audited, sum.redecided
	if section := d.build.policy.section; section != nil {
		s.Mode, s.Identities, s.Addresses = section.Mode, len(section.Identities), len(section.Endpoints)
	}
	return s
}

// CountFlows is how many flows there are whose local end has one of these
// identities: those that are decided anew when its policy changes. A flow between
// two pods of the node counts once for each worker that has one of them.
func (d *Dataplane) CountFlows(ctx context.Context, identities []uint32) (uint64, error) {
	ends := d.endpointsOf(identities)
	if len(ends) == 0 {
		return 0, nil
	}
	var sum uint64
	for _, w := range d.core.workers {
		for from := conntrack.ID(1); from != 0; {
			err := w.do(ctx, func() {
				from = w.flows.Range(from, flowChunk, func(_ conntrack.ID, f *conntrack.Flow) bool {
					t := asReceived(f)
					if ends.has(t.Src, w.id) || ends.has(t.Dst, w.id) {
						sum++
					}
					return true
				})
			})
			if err != nil {
				return sum, fmt.Errorf("count the flows of worker %d: %w", w.id, err)
			}
		}
	}
	return sum, nil
}

// endpointsOf is the local endpoints with one of the identities.
func (d *Dataplane) endpointsOf(identities []uint32) workerByAddress {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := workerByAddress{}
	p := d.build.policy.current
	if p == nil {
		return out
	}
	for slot := range p.endpoints {
		if e := &p.endpoints[slot]; e.addr != 0 && slices.Contains(identities, e.identity) {
			out[e.addr] = d.build.endpoints[slot].Worker
		}
	}
	return out
}

// workerByAddress says whose some local endpoints are.
type workerByAddress map[uint32]uint8

func (b workerByAddress) has(a uint32, worker uint8) bool {
	w, ok := b[a]
	return ok && w == worker
}

// policyOfFlow says what policy makes of a flow now, in the words of get flows; empty
// where no policy has a say.
func (w *Worker) policyOfFlow(f *conntrack.Flow) (verdict, rule string) {
	if w.snap == nil || w.snap.policing == nil {
		return "", "" // no section, or no round yet
	}
	q := question{tuple: asReceived(f), flags: f.Flags()}
	denied := w.verdictOn(&q)
	switch {
	case denied == packet.NoReason && q.asked == 0:
		return "", ""
	case denied == packet.NoReason:
		return "allow", strings.Join(slices.Compact(ruleNames(q.by[:q.asked])), ", ")
	case w.snap.policing.audit:
		verdict = "audit"
	default:
		verdict = "deny"
	}
	if q.asked > 0 {
		rule = ruleNames(q.by[:q.asked])[q.asked-1]
	}
	return verdict, rule
}

// ruleNames are the names of rules that decided; nil is none, and the default.
func ruleNames(rules []*policy.Rule) []string {
	out := make([]string, len(rules))
	for i, r := range rules {
		out[i] = "default"
		if r != nil {
			out[i] = r.Name
		}
	}
	return out
}
