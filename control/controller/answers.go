package controller

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"ringway/control"
	"ringway/control/store"
)

// chunkBytes bounds a message of a listing, give or take one item.
const chunkBytes = 256 << 10

// sendAll sends items in messages of about chunkBytes.
func sendAll[T proto.Message](items []T, send func([]T) error) error {
	var chunk []T
	size := 0
	for _, item := range items {
		chunk = append(chunk, item)
		if size += proto.Size(item); size < chunkBytes {
			continue
		}
		if err := send(chunk); err != nil {
			return err
		}
		chunk, size = nil, 0
	}
	if len(chunk) == 0 {
		return nil
	}
	return send(chunk)
}

// answer is err as gRPC carries it.
func answer(err error) error {
	var ps control.Problems
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ps):
		return control.Refusal(err)
	case errors.Is(err, errConflict):
		return grpcstatus.Error(codes.Aborted, err.Error())
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrClosed), errors.Is(err, store.ErrEmbeddedFailed):
		return grpcstatus.Error(codes.Unavailable, err.Error())
	case errors.Is(err, store.ErrUnknown):
		return grpcstatus.Error(codes.Unknown, err.Error())
	case errors.Is(err, store.ErrNoSpace), errors.Is(err, store.ErrTooLarge):
		return grpcstatus.Error(codes.ResourceExhausted, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return grpcstatus.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		return grpcstatus.Error(codes.Canceled, err.Error())
	}
	return grpcstatus.Error(codes.FailedPrecondition, err.Error())
}
