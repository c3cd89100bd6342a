package agent

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/perennial-go/perennial/internal/tracetest"
	"github.com/perennial-go/perennial/internal/tracing"
	"github.com/perennial-go/perennial/plugin"
	"github.com/perennial-go/perennial/plugin/dispatch"
	"github.com/perennial-go/perennial/upgrade"
)

func TestDocumentationListsEverySpanAndNoOther(t *testing.T) {
	text, err := os.ReadFile("../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Traces\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(perennial[a-z.]+)` \\|").FindAllStringSubmatch(section, -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	want := []string{
		upgrade.SpanAttempt, upgrade.SpanSuccessor, upgrade.SpanResume, upgrade.SpanDrain, upgrade.SpanCheck, upgrade.SpanDownload, upgrade.SpanVerify,
		upgrade.SpanWait, upgrade.SpanStart, upgrade.SpanProbation, upgrade.SpanCommit, upgrade.SpanRollback, upgrade.SpanTakeOver,
		dispatch.SpanSubmit, dispatch.SpanAssign, dispatch.SpanRun, plugin.SpanExecute,
	}
	slices.Sort(want)
	if !slices.Equal(listed, want) {
		t.Errorf("docs/observability.md lists\n%s\nthe packages have\n%s", strings.Join(listed, "\n"), strings.Join(want, "\n"))
	}
}

func TestSpansTellWhichAgentTheyAreOf(t *testing.T) {
	var seen tracetest.Recorder
	provider := traced(Config{ID: "a1", Version: "1.2.3", TracerProvider: &seen})
	_, span := tracing.New(provider, scope).Start(t.Context(), "work", trace.SpanKindInternal)
	span.End(nil)
	if got := seen.Spans("work"); len(got) != 1 || got[0].Attributes["agent"] != "a1" || got[0].Attributes["version"] != "1.2.3" {
		t.Errorf("%+v", got)
	}
	if got := traced(Config{ID: "a1"}); got != nil {
		t.Errorf("without a provider there is %v, which would make spans", got)
	}
}
