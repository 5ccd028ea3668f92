package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"ringway/control"
	"ringway/control/object"
	pb "ringway/control/ringwayv1"
)

// objectView is how objects of a kind are listed.
type objectView struct {
	kind    string // as in package object
	name    string // as in ringway get NAME
	aliases []string
	short   string
	headers []string // behind those of namespace and name
	cells   func(o objectDoc) []any
}

var objectViews = []objectView{
	{kind: object.KindNode, name: "nodes", short: "Nodes of the cluster"},
	{
		kind: object.KindPool, name: "pools", aliases: []string{"pool"}, short: "Pools that node CIDRs come from",
		headers: []string{"CIDRS", "MASK-SIZE", "DISABLED"},
		cells: func(o objectDoc) []any {
			return []any{o.list("spec.cidrs"), o.text("spec.maskSize"), yesNo(o.text("spec.disabled") == "true")}
		},
	},
	{
		kind: object.KindNamespace, name: "namespaces", aliases: []string{"namespace", "ns"}, short: "Namespaces and their labels",
		headers: []string{"LABELS"},
		cells:   func(o objectDoc) []any { return []any{o.pairs("metadata.labels")} },
	},
	{
		kind: object.KindRoutingConfig, name: "routingconfig", aliases: []string{"routingconfigs"}, short: "How packets get from node to node, and whether policy is enforced",
		headers: []string{"ROUTING", "VNI", "PORT", "POLICY"},
		cells: func(o objectDoc) []any {
			return []any{o.text("spec.routing"), o.text("spec.vxlan.vni"), o.text("spec.vxlan.port"), o.text("spec.policy.mode")}
		},
	},
	{
		kind: object.KindMasquerade, name: "masquerade", short: "What pods reach the world with",
		headers: []string{"ENABLED", "NATIVE-ROUTING", "NON-MASQUERADE", "RULES"},
		cells: func(o objectDoc) []any {
			return []any{yesNo(o.text("spec.enabled") != "false"), o.list("spec.nativeRoutingCIDRs"), o.list("spec.nonMasqueradeCIDRs"), o.count("spec.rules")}
		},
	},
	{
		kind: object.KindEndpoint, name: "endpoints", short: "Pods of all nodes",
		headers: []string{"NODE", "ADDRESS", "LABELS"},
		cells: func(o objectDoc) []any {
			return []any{o.text("spec.node"), o.text("spec.address"), o.pairs("spec.labels")}
		},
	},
	{
		kind: object.KindService, name: "services", short: "Services and their backends",
		headers: []string{"ADDRESS", "PORTS", "SELECTOR", "BACKENDS"},
		cells: func(o objectDoc) []any {
			return []any{o.text("spec.address"), o.ports("spec.ports"), o.pairs("spec.selector"), o.list("spec.backends")}
		},
	},
	{
		kind: object.KindRedirect, name: "redirects", short: "Redirects to local backends",
		headers: []string{"FRONTEND"},
		cells: func(o objectDoc) []any {
			if ip := o.text("spec.redirectFrontend.addressMatcher.ip"); ip != "" {
				return []any{ip}
			}
			return []any{"service " + o.text("spec.redirectFrontend.serviceMatcher.serviceName")}
		},
	},
	{
		kind: object.KindNetworkPolicy, name: "networkpolicies", aliases: []string{"networkpolicy", "netpol"}, short: "Who may talk with whom",
		headers: []string{"POD-SELECTOR", "TYPES", "ACTION", "PRIORITY"},
		cells: func(o objectDoc) []any {
			return []any{o.selector("spec.podSelector"), o.list("spec.policyTypes"), o.annotation("ringway.io/action"), o.annotation("ringway.io/priority")}
		},
	},
}

func (v objectView) namespaced() bool {
	k, ok := object.KindByName(v.kind)
	return ok && k.Namespaced
}

// viewOf finds the view that ringway get NAME is of.
func viewOf(name string) (objectView, bool) {
	i := slices.IndexFunc(objectViews, func(v objectView) bool { return v.name == name })
	if i < 0 {
		return objectView{}, false
	}
	return objectViews[i], true
}

// kindOf finds a kind by any of its names.
func kindOf(name string) (*object.Kind, bool) {
	for _, v := range objectViews {
		if v.name == name || slices.Contains(v.aliases, name) {
			name = v.kind
		}
	}
	return object.KindByName(name)
}

func objectKey(kind, namespace, name string) (*pb.ObjectKey, error) {
	k, ok := kindOf(kind)
	if !ok {
		var names []string
		for _, v := range objectViews {
			names = append(names, v.name)
		}
		return nil, usagef("kind %q is not known: write one of %s", kind, strings.Join(names, ", "))
	}
	if !k.Namespaced && namespace != "" {
		return nil, usagef("a %s is in no namespace: leave -n out", k.Name)
	}
	if k.Namespaced && namespace == "" {
		namespace = "default"
	}
	return &pb.ObjectKey{Kind: k.Name, Namespace: namespace, Name: name}, nil
}

// newGetObjectsCommand is ringway get of a kind that only controllers know.
func newGetObjectsCommand(k objectView) *cobra.Command {
	var to controllerTarget
	var as output
	var namespace string
	c := &cobra.Command{
		Use:     k.name + " [NAME]",
		Aliases: k.aliases,
		Short:   k.short + " (of a controller)",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return getObjects(c, &to, as, k, namespace, args)
		},
	}
	to.flags(c)
	as.flag(c)
	namespaceFlag(c, &namespace, k)
	return c
}

func namespaceFlag(c *cobra.Command, namespace *string, k objectView) {
	if k.namespaced() {
		c.Flags().StringVarP(namespace, "namespace", "n", "", "namespace of the objects; all when left out, and \"default\" for a NAME")
	}
}

// getObjects prints objects of a kind, or the one that args names.
func getObjects(c *cobra.Command, to *controllerTarget, as output, k objectView, namespace string, args []string) error {
	if err := as.check(); err != nil {
		return err
	}
	client, err := to.client()
	if err != nil {
		return err
	}
	defer client.Close()
	name := ""
	if len(args) > 0 {
		name = args[0]
		if k.namespaced() && namespace == "" {
			namespace = "default"
		}
	}
	docs, err := fetchObjects(c, client, k, namespace, name)
	if err != nil {
		return err
	}
	if len(docs) == 0 && name != "" {
		return fmt.Errorf("there is no %s: see ringway get %s --controller %s", objectName(&pb.ObjectKey{Kind: k.kind, Namespace: namespace, Name: name}), k.name, to.address)
	}
	switch {
	case as.structured() && name != "":
		return writeDocument(c.OutOrStdout(), as, docs[0])
	case as.structured():
		return writeDocument(c.OutOrStdout(), as, map[string]any{"apiVersion": "v1", "kind": "List", "items": docs})
	case k.kind == object.KindNode:
		return showNodeObjects(c.OutOrStdout(), docs, time.Now(), as.wide())
	}
	return showObjects(c.OutOrStdout(), k, docs, as.wide())
}

// fetchObjects gives nodes a status, which is not part of what people write.
func fetchObjects(c *cobra.Command, client *control.ObjectClient, k objectView, namespace, name string) ([]objectDoc, error) {
	objects, err := client.Get(c.Context(), k.kind, namespace, name)
	if err != nil {
		return nil, err
	}
	docs := make([]objectDoc, len(objects))
	for i, o := range objects {
		if err := json.Unmarshal([]byte(o.GetDocument()), &docs[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", objectName(o.GetKey()), err)
		}
	}
	if k.kind != object.KindNode {
		return docs, nil
	}
	states, err := client.NodeStates(c.Context())
	if err != nil {
		return nil, err
	}
	byName := map[string]*pb.NodeState{}
	for _, s := range states {
		byName[s.GetName()] = s
	}
	for _, doc := range docs {
		if err := doc.addStatus(byName[doc.text("metadata.name")]); err != nil {
			return nil, err
		}
	}
	return docs, nil
}

func writeDocument(w io.Writer, as output, doc any) error {
	b, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	if as == "yaml" {
		if b, err = yaml.JSONToYAML(b); err != nil {
			return fmt.Errorf("write as YAML: %w", err)
		}
		_, err = w.Write(b)
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func showObjects(w io.Writer, k objectView, docs []objectDoc, wide bool) error {
	headers := append([]string{"NAME"}, k.headers...)
	if k.namespaced() {
		headers = append([]string{"NAMESPACE"}, headers...)
	}
	t := newTable(w, "", wide, append(headers, "|", "RESOURCE-VERSION")...)
	for _, o := range docs {
		row := append([]any{o.text("metadata.name")}, k.cells(o)...)
		if k.namespaced() {
			row = append([]any{o.text("metadata.namespace")}, row...)
		}
		t.row(append(row, o.text("metadata.resourceVersion"))...)
	}
	return t.end()
}
