// Enforces NetworkPolicies on one node: the firewall of kube-router, without its router and its proxy.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Runs until SIGTERM, and then removes its rules.
func run() error {
	settings := options.NewKubeRouterConfig()
	settings.EnableIPv4 = true
	settings.HostnameOverride = os.Getenv("NODE")
	settings.IPTablesSyncPeriod = time.Minute

	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	// Only these policies are enforced, so that tests that run at the same time are not disturbed.
	enforced := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(
		func(options *metav1.ListOptions) { options.LabelSelector = os.Getenv("SELECTOR") }))
	policies := enforced.Networking().V1().NetworkPolicies().Informer()
	stop := make(chan struct{})
	for _, each := range []informers.SharedInformerFactory{factory, enforced} {
		each.Start(stop)
		for kind, synced := range each.WaitForCacheSync(stop) {
			if !synced {
				return fmt.Errorf("cannot list %v", kind)
			}
		}
	}

	tables, sets, err := netpol.NewIPTablesHandlers(settings)
	if err != nil {
		return err
	}
	var lock sync.Mutex
	firewall, err := netpol.NewNetworkPolicyController(client, settings, pods, policies, namespaces, &lock, tables, sets)
	if err != nil {
		return err
	}
	for _, watched := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{pods, firewall.PodEventHandler},
		{namespaces, firewall.NamespaceEventHandler},
		{policies, firewall.NetworkPolicyEventHandler},
	} {
		if _, err := watched.informer.AddEventHandler(watched.handler); err != nil {
			return err
		}
	}

	// It reports after each round that it is alive, and waits until that is read.
	alive := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range alive {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go firewall.Run(alive, stop, &running)

	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM)
	<-told
	close(stop)
	running.Wait()
	firewall.Cleanup()
	return nil
}
