package object

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultNamespace = "default" // Kubernetes' name for no namespace

	annotationPrefix = "ringway.io/"
	// lastApplied is a copy of the object that kubectl leaves in it.
	lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

	maxLabels          = 256       // of one object
	maxAnnotationBytes = 256 << 10 // keys and values together, as Kubernetes has it
)

const nameSyntax = "use a-z, 0-9, - and ., with a letter or digit at both ends of each part"

// checkMeta looks at metadata and completes it.
func checkMeta(o Object, top map[string]any, ps *problems) {
	m, kind := o.Metadata(), o.Kind()
	written, _ := top["metadata"].(map[string]any)
	if written["generateName"] != nil {
		ps.add("metadata.generateName", "names are not made up here", "write metadata.name")
	}
	checkName(m.Name, kind, ps)
	checkNamespace(m, kind, ps)
	checkLabels("metadata.labels", m.Labels, ps)
	delete(m.Annotations, lastApplied)
	checkAnnotations(m.Annotations, kind, ps)
	if _, err := strconv.ParseUint(m.ResourceVersion, 10, 64); err != nil && m.ResourceVersion != "" {
		ps.add("metadata.resourceVersion", fmt.Sprintf("%q is no revision", clip(m.ResourceVersion)), "write it as ringway get shows it, or leave it out")
	}
}

func checkName(name string, kind *Kind, ps *problems) {
	const field = "metadata.name"
	switch single := kind == &masqueradeKind || kind == &routingConfigKind; {
	case name == "":
		ps.add(field, "missing", nameSyntax)
	case single && name != Singleton:
		ps.add(field, fmt.Sprintf("there is one %s, and %q is not its name", kind.Name, clip(name)), "write "+Singleton)
	case kind == &namespaceKind && len(validation.IsDNS1123Label(name)) > 0:
		ps.add(field, fmt.Sprintf("%q is not an RFC 1123 label", clip(name)), "use a-z, 0-9 and -, at most 63, with a letter or digit at both ends")
	case kind == &networkPolicyKind || kind == &redirectPolicyKind:
		// As Kubernetes has it: its parts may be longer than those of a host.
		if len(validation.IsDNS1123Subdomain(name)) > 0 {
			ps.add(field, fmt.Sprintf("%q is not an RFC 1123 name", clip(name)), nameSyntax)
		}
	default:
		if reason, remedy := nameProblem(name); reason != "" {
			ps.add(field, reason, remedy)
		}
	}
}

// nameProblem checks a name by RFC 1123 section 2.1, in lower case, with parts of at
// most 63: names of nodes and pods are names of hosts.
func nameProblem(s string) (reason, remedy string) {
	if len(s) > validation.DNS1123SubdomainMaxLength {
		return fmt.Sprintf("%q has %d characters", clip(s), len(s)), fmt.Sprintf("keep to %d", validation.DNS1123SubdomainMaxLength)
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) > validation.DNS1123LabelMaxLength {
			return fmt.Sprintf("%q has a part of %d characters", clip(s), len(label)), fmt.Sprintf("keep to %d between dots", validation.DNS1123LabelMaxLength)
		}
		if len(validation.IsDNS1123Label(label)) > 0 {
			return fmt.Sprintf("%q is not an RFC 1123 name", clip(s)), nameSyntax
		}
	}
	return "", ""
}

func checkNamespace(m *Meta, kind *Kind, ps *problems) {
	const field = "metadata.namespace"
	switch {
	case !kind.Namespaced && m.Namespace != "":
		ps.add(field, fmt.Sprintf("a %s is in none", kind.Name), "take it out")
	case !kind.Namespaced:
	case m.Namespace == "":
		m.Namespace = defaultNamespace
	case len(validation.IsDNS1123Label(m.Namespace)) > 0:
		ps.add(field, fmt.Sprintf("%q is not an RFC 1123 label", clip(m.Namespace)), "use a-z, 0-9 and -, at most 63, with a letter or digit at both ends")
	}
}

func checkLabels(field string, labels map[string]string, ps *problems) {
	if len(labels) > maxLabels {
		ps.add(field, fmt.Sprintf("%d labels are too many", len(labels)), fmt.Sprintf("keep to %d", maxLabels))
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		if ps.full() {
			return
		}
		field := field + "." + word(k)
		checkLabelKey(field, k, ps)
		checkLabelValue(field, labels[k], ps)
	}
}

func checkLabelKey(field, k string, ps *problems) {
	if len(validation.IsQualifiedName(k)) > 0 {
		ps.add(field, fmt.Sprintf("%q is no label key", clip(k)), "write it as in app or app.kubernetes.io/name")
	}
}

func checkLabelValue(field, v string, ps *problems) {
	if len(validation.IsValidLabelValue(v)) > 0 {
		ps.add(field, fmt.Sprintf("%q is no label value", clip(v)), "use at most 63 of A-Z, a-z, 0-9, -, _ and ., with a letter or digit at both ends")
	}
}

// checkAnnotations: those of others are none of our business, a misspelt one of ours
// would do nothing in silence.
func checkAnnotations(all map[string]string, kind *Kind, ps *problems) {
	size := 0
	for _, k := range slices.Sorted(maps.Keys(all)) {
		if ps.full() {
			return
		}
		size += len(k) + len(all[k])
		field := "metadata.annotations." + word(k)
		switch {
		case len(validation.IsQualifiedName(strings.ToLower(k))) > 0:
			ps.add(field, fmt.Sprintf("%q is no annotation", clip(k)), "write it as in note or example.com/note")
		case !strings.HasPrefix(k, annotationPrefix) || slices.Contains(kind.annotations, k):
		case len(kind.annotations) == 0:
			ps.add(field, fmt.Sprintf("a %s has no annotations of %s", kind.Name, annotationPrefix), "take it out")
		default:
			ps.add(field, "unknown annotation", "known here: "+strings.Join(kind.annotations, ", "))
		}
	}
	if size > maxAnnotationBytes {
		ps.add("metadata.annotations", fmt.Sprintf("%d bytes are too many", size), fmt.Sprintf("keep to %d", maxAnnotationBytes))
	}
}
