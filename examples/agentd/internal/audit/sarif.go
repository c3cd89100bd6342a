package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"slices"
)

// The parts of SARIF 2.1.0 that are written.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		ColumnKind  string            `json:"columnKind"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID      string             `json:"id"`
		Short   sarifText          `json:"shortDescription"`
		Help    sarifText          `json:"help"`
		Default sarifConfiguration `json:"defaultConfiguration"`
	}
	sarifConfiguration struct {
		Level Level `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		Successful    bool                `json:"executionSuccessful"`
		Notifications []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     Level           `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations"`
	}
	sarifResult struct {
		RuleID       string             `json:"ruleId"`
		RuleIndex    int                `json:"ruleIndex"`
		Level        Level              `json:"level"`
		Message      sarifText          `json:"message"`
		Locations    []sarifLocation    `json:"locations"`
		Fingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions []sarifSuppression `json:"suppressions,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Justification string `json:"justification"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		Line   int `json:"startLine"`
		Column int `json:"startColumn,omitempty"`
	}
)

// SARIF returns the report as SARIF 2.1.0, ready to be written as JSON: what
// stands, and what comments in the files suppress, marked as that. What was
// fixed is not part of it. version is that of the program.
func (r *Report) SARIF(version string) any {
	run := sarifRun{
		Tool:        sarifTool{sarifDriver{Name: "agentd audit", Version: version}},
		Invocations: []sarifInvocation{{Successful: r.Incomplete() == nil}},
		ColumnKind:  "unicodeCodePoints",
		Results:     []sarifResult{},
	}
	rules := Rules()
	for _, rule := range rules {
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{
			rule.ID, sarifText{rule.Short}, sarifText{rule.Help}, sarifConfiguration{rule.Level},
		})
	}
	for _, u := range r.Unread {
		run.Invocations[0].Notifications = append(run.Invocations[0].Notifications, sarifNotification{
			Note, sarifText{"not read: " + u.Reason}, []sarifLocation{locate(u.Path, 0, 0)},
		})
	}
	seen := map[string]int{} // the same may be found at several places of a file
	for _, f := range r.Findings {
		if !f.Open() && f.Suppressed == "" {
			continue
		}
		what := f.Rule + "\n" + f.Path + "\n" + f.Message
		if seen[what]++; seen[what] > 1 {
			what += fmt.Sprintf("\n%d", seen[what])
		}
		sum := sha256.Sum256([]byte(what))
		result := sarifResult{
			RuleID: f.Rule, Level: f.Level, Message: sarifText{f.Message},
			RuleIndex:    slices.IndexFunc(rules, func(rule Rule) bool { return rule.ID == f.Rule }),
			Locations:    []sarifLocation{locate(f.Path, f.Line, f.Column)},
			Fingerprints: map[string]string{"agentdAudit/v1": hex.EncodeToString(sum[:])},
		}
		if f.Suppressed != "" {
			result.Suppressions = []sarifSuppression{{"inSource", f.Suppressed}}
		}
		run.Results = append(run.Results, result)
	}
	return sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}}
}

func locate(name string, line, column int) sarifLocation {
	u := url.URL{Path: name}
	if path.IsAbs(name) {
		u.Scheme = "file"
	}
	l := sarifLocation{sarifPhysical{Artifact: sarifArtifact{u.String()}}}
	if line > 0 {
		l.Physical.Region = &sarifRegion{line, column}
	}
	return l
}
