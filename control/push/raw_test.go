package push

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// raw is a node that says what the test wants it to.
type raw struct {
	t      testing.TB
	conn   *grpc.ClientConn
	stream pb.ControllerService_FollowClient
	in     chan *pb.FollowResponse
	err    chan error
}

func dialRaw(t testing.TB, s *site, node string) *raw {
	t.Helper()
	conn, err := dial(node)(context.Background(), s.socket)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := pb.NewControllerServiceClient(conn).Follow(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, conn: conn, stream: stream, in: make(chan *pb.FollowResponse, 100), err: make(chan error, 1)}
	t.Cleanup(func() { conn.Close() })
	return r
}

// follow says hello and listens.
func follow(t testing.TB, s *site, node string, h *pb.Hello) *raw {
	t.Helper()
	r := dialRaw(t, s, node)
	r.say(&pb.FollowRequest{Message: &pb.FollowRequest_Hello{Hello: h}})
	go r.listen()
	return r
}

func (r *raw) listen() {
	for {
		m, err := r.stream.Recv()
		if err != nil {
			r.err <- err
			return
		}
		r.in <- m
	}
}

func (r *raw) say(m *pb.FollowRequest) {
	r.t.Helper()
	if err := r.stream.Send(m); err != nil && !errors.Is(err, io.EOF) { // that the stream ended, listen says
		r.t.Fatal(err)
	}
}

// next is the next message.
func (r *raw) next() *pb.FollowResponse {
	r.t.Helper()
	select {
	case m := <-r.in:
		return m
	case err := <-r.err:
		r.t.Fatal("the stream ended:", err)
	case <-time.After(20 * time.Second):
		r.t.Fatal("nothing came within 20 s")
	}
	return nil
}

// push is the next message, which is a part of a set.
func (r *raw) push() *pb.Push {
	r.t.Helper()
	m := r.next()
	if m.GetPush() == nil {
		r.t.Fatalf("got %v, want a push", m)
	}
	return m.GetPush()
}

// nothing comes for a while that is long compared with what it takes to come.
func (r *raw) nothing(why string) {
	r.t.Helper()
	select {
	case m := <-r.in:
		r.t.Fatalf("%s: got %v", why, m)
	case err := <-r.err:
		r.t.Fatalf("%s: the stream ended: %v", why, err)
	case <-time.After(150 * time.Millisecond):
	}
}

// ends waits for the end of the stream.
func (r *raw) ends(code codes.Code) {
	r.t.Helper()
	for {
		select {
		case <-r.in:
		case err := <-r.err:
			if status.Code(err) != code {
				r.t.Fatalf("the stream ended with %v, want %v", err, code)
			}
			return
		case <-time.After(20 * time.Second):
			r.t.Fatal("the stream goes on after 20 s")
		}
	}
}

func (r *raw) ack(p *pb.Push) { r.answer(&pb.Answer{Nonce: p.GetNonce(), Version: p.GetVersion()}) }

func (r *raw) nack(p *pb.Push) {
	r.answer(&pb.Answer{Nonce: p.GetNonce(), Version: p.GetVersion(), Problems: problem("nodes[0].address")})
}

func (r *raw) answer(a *pb.Answer) {
	r.t.Helper()
	r.say(&pb.FollowRequest{Message: &pb.FollowRequest_Answer{Answer: a}})
}

func problem(field string) []*pb.Problem {
	return []*pb.Problem{{Field: field, Reason: "it is on fire", Remedy: "use water"}}
}

// keys are those of the changes of a push.
func keys(t testing.TB, p *pb.Push) []string {
	t.Helper()
	var out []string
	for _, b := range [][]byte{p.GetCommon(), p.GetOwn()} {
		var c pb.Changes
		if err := proto.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		for _, r := range c.GetRemovals() {
			out = append(out, "-"+r.GetKey())
		}
		for _, u := range c.GetUpserts() {
			out = append(out, u.GetKey())
		}
	}
	return out
}

// hello is that of a node which has a version of w.
func (w *world) hello(node string, version uint64) *pb.Hello {
	w.t.Helper()
	rs, err := tableset.Split(w.tables(node, version))
	if err != nil {
		w.t.Fatal(err)
	}
	hash := tableset.Of(rs...).Digest()
	return &pb.Hello{Cluster: cluster, Version: version, Hash: hash[:]}
}
