package pki

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
)

// handshaker is TLS at the Gate: it finds out who the peer is, and writes down
// whom it turned away.
type handshaker struct{ gate *Gate }

func (h handshaker) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, peer, err := h.handshake(raw)
	if err != nil {
		h.gate.refusals.Log("a connection is refused",
			slog.String("address", raw.RemoteAddr().String()), slog.String("reason", reason(err)))
		return nil, nil, err
	}
	return secure, peer, nil
}

func (h handshaker) handshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := raw.(*conn)
	if !ok {
		return nil, nil, errors.New("the connection did not come by the gate")
	}
	secure, info, err := h.gate.creds.ServerHandshake(raw)
	if err != nil {
		return nil, nil, err
	}
	p, err := peerOf(info, raw.RemoteAddr())
	if err != nil {
		secure.Close()
		return nil, nil, err
	}
	if err := h.gate.welcome(c, p); err != nil {
		secure.Close()
		return nil, nil, fmt.Errorf("the peer %s is not let in: %w", p.Identity, err)
	}
	return secure, p, nil
}

// peerOf reads the certificate that VerifyConnection has verified.
func peerOf(info credentials.AuthInfo, address net.Addr) (Peer, error) {
	t, ok := info.(credentials.TLSInfo)
	if !ok || t.SPIFFEID == nil {
		return Peer{}, errors.New("the peer's certificate names nobody")
	}
	leaf := t.State.PeerCertificates[0]
	id, err := identityOf(leaf)
	if err != nil {
		return Peer{}, err
	}
	return Peer{TLSInfo: t, Identity: id, Serial: serial(leaf), Address: address}, nil
}

// reason says in the words of who runs the server what TLS says in its own.
func reason(err error) string {
	var header tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(err, io.EOF):
		return "it closed the connection in the handshake: " + err.Error()
	case errors.As(err, &header):
		return "it does not talk TLS: " + err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "it did not finish its handshake in time: " + err.Error()
	case errors.As(err, &unknown):
		return "its certificate is of another CA: " + err.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate is not valid now: " + err.Error()
	}
	return err.Error()
}

// ClientHandshake is not what a gate is for.
func (handshaker) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("a gate opens inwards only")
}

func (h handshaker) Info() credentials.ProtocolInfo { return h.gate.creds.Info() }

func (h handshaker) Clone() credentials.TransportCredentials { return h }

func (handshaker) OverrideServerName(string) error { return nil }
