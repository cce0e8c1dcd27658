// Compares dashboards with Grafana's own schema, as its Foundation SDK has it: a field that the schema does not know, or
// that has another type, is an error, also in the options of a panel and in its queries.
package main

import (
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	failed := len(os.Args) < 2
	for _, path := range os.Args[1:] {
		// The library returns a list of errors, and an empty one is not nil.
		if err := compare(path); err != nil && err.Error() != "" {
			fmt.Fprintf(os.Stderr, "%s: %v\n", path, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
	fmt.Printf("%d dashboards are as Grafana's schema asks for\n", len(os.Args)-1)
}

func compare(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var made dashboard.Dashboard
	if err := made.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
		return err
	}
	return made.Validate()
}
