package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Level says how bad a finding is; the words are SARIF's.
type Level string

// The levels, in order.
const (
	Note    Level = "note"
	Warning Level = "warning"
	Error   Level = "error"
)

// ParseLevel reads one of the three words.
func ParseLevel(s string) (Level, error) {
	switch l := Level(s); l {
	case Note, Warning, Error:
		return l, nil
	}
	return "", fmt.Errorf("want %s, %s or %s, found %q", Note, Warning, Error, s)
}

func (l Level) rank() int {
	return slices.Index([]Level{Note, Warning, Error}, l)
}

// Covers reports whether a finding of level other is at least as bad as l.
func (l Level) Covers(other Level) bool { return other.rank() >= l.rank() }

// Rule is something that is looked for. Its ID is stable: comments and other
// programs name it.
type Rule struct {
	ID    string
	Level Level
	// Short is one sentence, Help says what to do.
	Short, Help string
}

// The rules by their ids.
const (
	imageTagMissing    = "image-tag-missing"
	imageTagFloating   = "image-tag-floating"
	imageDigestMissing = "image-digest-missing"
	imageVariable      = "image-variable"
	imageInvalid       = "image-invalid"
	pullPolicyStale    = "pull-policy-stale"
	pullPolicyNeedless = "pull-policy-needless"
	pullPolicyUnknown  = "pull-policy-unknown"
	ciRefFloating      = "ci-ref-floating"
	ciCommitMissing    = "ci-commit-missing"
	ciRunnerFloating   = "ci-runner-floating"
	gitNotAtTag        = "git-not-at-tag"
	gitDirty           = "git-dirty"
	toolUndeclared     = "tool-undeclared"
	envUndeclared      = "env-undeclared"
	sourceUnread       = "source-unread"
	lockMissing        = "lock-missing"
	lockStale          = "lock-stale"
	requirementLoose   = "requirement-unpinned"
	fileUnread         = "file-unread"
	suppressionInvalid = "suppression-invalid"
)

// Rules returns all rules, by id.
func Rules() []Rule {
	rules := []Rule{
		{imageTagMissing, Error, "An image has neither tag nor digest.", "It is latest, whatever that is on the day: write an exact tag and the digest."},
		{imageTagFloating, Error, "An image has a tag that moves.", "Names such as latest and partial versions such as 1.25 come to mean other images: write an exact tag and the digest."},
		{imageDigestMissing, Warning, "An image has an exact tag but no digest.", "A tag can be pushed again: append @sha256:…, as --fix does."},
		{imageVariable, Note, "An image is named by a variable without a value here.", "What runs is decided elsewhere: give the variable an exact default, or audit what is rendered."},
		{imageInvalid, Error, "An image reference is none.", "No registry could have it: correct its spelling."},
		{pullPolicyStale, Error, "A pull policy keeps what a moving tag meant earlier.", "Hosts that pulled on different days run different images: pin the image by digest, or pull always."},
		{pullPolicyNeedless, Note, "An image with a digest is pulled always.", "A digest cannot change: IfNotPresent starts without the registry. Always is right where pulling checks access."},
		{pullPolicyUnknown, Error, "A pull policy is none that there is.", "Write one of the words that the message names."},
		{ciRefFloating, Error, "A CI file uses another repository at a branch or a partial version.", "Write the commit, with the version in a comment."},
		{ciCommitMissing, Warning, "A CI file uses another repository at a tag.", "A tag can be moved: write the commit, with the version in a comment."},
		{ciRunnerFloating, Note, "A CI job runs on a machine image that moves.", "Name the version of the runner's image, such as ubuntu-24.04."},
		{gitNotAtTag, Note, "The commit has no tag of an exact version.", "Tag what is released, such as git tag v1.2.3. With --require-tag this is an error."},
		{gitDirty, Note, "The git tree has changes that no commit holds.", "Commit them. With --require-tag this is an error."},
		{toolUndeclared, Warning, "A script uses a program that it does not declare.", "Check for it with command -v, or write # agentd-audit: tools NAME."},
		{envUndeclared, Warning, "A script uses a variable that nothing sets.", "Write ${NAME:?what it is} or a default, or # agentd-audit: env NAME."},
		{sourceUnread, Note, "A script sources a file that was not found below the audited path.", "What it sets is unknown, so that variables and programs of the script were not judged."},
		{lockMissing, Error, "A package manifest has no lock file.", "Each build takes what is newest: make the lock and commit it."},
		{lockStale, Error, "A lock file does not match its manifest.", "Run the package manager's lock command and commit what it writes."},
		{requirementLoose, Warning, "A requirement names no exact version.", "Write name==version, with hashes (pip-compile --generate-hashes)."},
		{fileUnread, Warning, "A file could not be read as what it is.", "It was not judged: mend it, render it, or exclude it."},
		{suppressionInvalid, Warning, "A comment to the audit is not understood.", "Write # agentd-audit: ignore RULE reason."},
	}
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Compare(a.ID, b.ID) })
	return rules
}

// knownRules returns the ids of all rules.
func knownRules() map[string]Rule {
	byID := map[string]Rule{}
	for _, r := range Rules() {
		byID[r.ID] = r
	}
	return byID
}

// checkRules refuses ids that are none.
func checkRules(ids []string) error {
	known := knownRules()
	for _, id := range ids {
		if _, ok := known[id]; !ok {
			var all []string
			for _, r := range Rules() {
				all = append(all, r.ID)
			}
			return fmt.Errorf("there is no rule %q: want one of %s", id, strings.Join(all, ", "))
		}
	}
	return nil
}
