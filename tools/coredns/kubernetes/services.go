package kubernetes

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// fileVariable names the file of Service objects, as KUBERNETES_SERVICE_HOST names
// the API server in a cluster: the Corefile says nothing of where objects are.
const fileVariable = "KUBERNETES_SERVICES_FILE"

// service is a Service that has a cluster IP.
type service struct {
	name, namespace string
	address         netip.Addr
	ports           []servicePort
}

type servicePort struct {
	name, protocol string // protocol in lower case
	port           int
}

// list is a v1 List of Services, as kubectl get services -o yaml prints it.
type list struct {
	Items []struct {
		Metadata struct {
			Name      string `yaml:"name"`
			Namespace string `yaml:"namespace"`
		} `yaml:"metadata"`
		Spec struct {
			ClusterIP string `yaml:"clusterIP"`
			Ports     []struct {
				Name     string `yaml:"name"`
				Protocol string `yaml:"protocol"`
				Port     int    `yaml:"port"`
			} `yaml:"ports"`
		} `yaml:"spec"`
	} `yaml:"items"`
}

// load reads the services, once.
func (k *Kubernetes) load() error {
	path := os.Getenv(fileVariable)
	if path == "" {
		return fmt.Errorf("set %s to a file of Service objects", fileVariable)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the services: %w", err)
	}
	var l list
	if err := yaml.Unmarshal(data, &l); err != nil {
		return fmt.Errorf("read the services in %s: %w", path, err)
	}
	k.services, k.read = nil, time.Now()
	for i, item := range l.Items {
		address, err := netip.ParseAddr(item.Spec.ClusterIP)
		if err != nil {
			return fmt.Errorf("%s: items[%d].spec.clusterIP: %w", path, i, err)
		}
		s := service{name: item.Metadata.Name, namespace: item.Metadata.Namespace, address: address}
		for _, p := range item.Spec.Ports {
			s.ports = append(s.ports, servicePort{name: p.Name, protocol: strings.ToLower(p.Protocol), port: p.Port})
		}
		k.services = append(k.services, s)
	}
	return nil
}
