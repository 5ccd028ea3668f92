package control

import (
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/credentials"

	"ringway/control/pki"
)

// controllerCredentials is who we are to the controller at address, and how we
// know that it is one. release ends the watch on the files.
func controllerCredentials(address string, files TLSFiles) (creds credentials.TransportCredentials, release func() error, err error) {
	var ps Problems
	ps.HostPort("controller", address)
	if err := ps.err(); err != nil {
		return nil, nil, err
	}
	if files.CA == "" || files.Cert == "" || files.Key == "" {
		return nil, nil, errors.New("a controller elsewhere is asked by certificate: give --ca, --cert and --key, or RINGWAY_CA, RINGWAY_CERT and RINGWAY_KEY")
	}
	source, err := pki.Open(pki.Files(files), pki.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	if err := source.Err(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("certificate: %w", err), source.Close())
	}
	return credentials.NewTLS(source.ClientTLS(pki.RoleController)), source.Close, nil
}
