package rpc

import (
	"log/slog"
	"strings"

	pb "ringway/control/ringwayv1"
)

const (
	maxNames   = 20  // of objects that one line names
	maxNameLen = 520 // KIND/NAMESPACE/NAME at their longest
)

// ControllerParticulars are the Particulars of what a controller is called for.
func ControllerParticulars(req, answer any) []slog.Attr {
	switch r := req.(type) {
	case *pb.ApplyObjectsRequest:
		return append([]slog.Attr{slog.Int("documents", len(r.GetDocuments()))}, results(answer)...)
	case *pb.DeleteObjectsRequest:
		names := make([]string, 0, min(len(r.GetKeys()), maxNames))
		for _, k := range r.GetKeys()[:min(len(r.GetKeys()), maxNames)] {
			names = append(names, objectName(k))
		}
		return append(objectNames(names, len(r.GetKeys())), version(answer)...)
	case *pb.JoinRequest:
		return []slog.Attr{slog.String("nodeAddress", clip(r.GetAddress()))}
	case *pb.RegisterEndpointRequest:
		attrs := []slog.Attr{slog.String("name", clip(r.GetName()))}
		if a, ok := answer.(*pb.RegisterEndpointResponse); ok && a != nil {
			attrs = append(attrs, slog.String("ip", a.GetAddress()))
		}
		return attrs
	case *pb.UnregisterEndpointRequest:
		return []slog.Attr{slog.String("name", clip(r.GetName()))}
	}
	return nil
}

// results are what became of the objects that were applied, without those that
// were so already.
func results(answer any) []slog.Attr {
	a, ok := answer.(*pb.ApplyObjectsResponse)
	if !ok || a == nil {
		return nil
	}
	var names []string
	changed := 0
	for _, r := range a.GetResults() {
		if r.GetResult() == "unchanged" {
			continue
		}
		if changed++; len(names) < maxNames {
			names = append(names, objectName(r.GetKey())+" "+r.GetResult())
		}
	}
	return append(objectNames(names, changed), version(answer)...)
}

func objectNames(names []string, all int) []slog.Attr {
	if all == 0 {
		return nil
	}
	attrs := []slog.Attr{slog.Any("objects", names)}
	if all > len(names) {
		attrs = append(attrs, slog.Int("moreObjects", all-len(names)))
	}
	return attrs
}

func version(answer any) []slog.Attr {
	if a, ok := answer.(interface{ GetVersion() uint64 }); ok && a.GetVersion() != 0 {
		return []slog.Attr{slog.Uint64("version", a.GetVersion())}
	}
	return nil
}

func objectName(k *pb.ObjectKey) string {
	s := k.GetKind() + "/"
	if k.GetNamespace() != "" {
		s += k.GetNamespace() + "/"
	}
	return clip(s + k.GetName())
}

// clip bounds what a caller chose.
func clip(s string) string {
	if len(s) <= maxNameLen {
		return s
	}
	return strings.ToValidUTF8(s[:maxNameLen], "") + "…"
}
