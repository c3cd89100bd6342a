package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// write makes a tree of files and returns its directory.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// judge audits a directory.
func judge(t testing.TB, dir string, cfg Config) *Report {
	t.Helper()
	if cfg.Paths == nil {
		cfg.Paths = []string{dir}
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	report, err := a.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// lines puts what stands into lines such as "compose.yaml:3:12 image-tag-missing".
func lines(dir string, report *Report) []string {
	all := []string{}
	for _, f := range report.Findings {
		if f.Open() {
			all = append(all, fmt.Sprintf("%s:%d:%d %s", strings.TrimPrefix(f.Path, filepath.ToSlash(dir)+"/"), f.Line, f.Column, f.Rule))
		}
	}
	return all
}

// scenario is a tree of files and what is found in it.
type scenario struct {
	name  string
	files map[string]string
	want  []string
}

// file is a scenario of one file; the positions are without its name.
func file(title, name, content string, want ...string) scenario {
	for i := range want {
		want[i] = name + ":" + want[i]
	}
	return scenario{title, map[string]string{name: content}, want}
}

func imageScenarios() []scenario {
	pod := func(fields string) string {
		return "apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - " + fields + "\n"
	}
	return []scenario{
		file("pod at no tag", "pod.yaml", pod("image: nginx"), "5:12 image-tag-missing"),
		file("pod at latest", "pod.yaml", pod("image: nginx:latest"), "5:12 image-tag-floating"),
		file("pod at latest that keeps it", "pod.yaml", pod("{image: nginx:latest, imagePullPolicy: IfNotPresent}"), "5:13 image-tag-floating", "5:44 pull-policy-stale"),
		file("pod at no tag that never pulls", "pod.yaml", pod("{image: nginx, imagePullPolicy: Never}"), "5:13 image-tag-missing", "5:37 pull-policy-stale"),
		file("pod at a partial version is kept by default", "pod.yaml", pod("image: nginx:1.25"), "5:12 image-tag-floating", "5:12 pull-policy-stale"),
		file("pod at a partial version pulled always", "pod.yaml", pod("{image: 'nginx:1.25', imagePullPolicy: Always}"), "5:13 image-tag-floating"),
		file("pod at an exact version", "pod.yaml", pod(`image: "nginx:1.25.3-alpine"`), "5:12 image-digest-missing"),
		file("pod with a digest", "pod.yaml", pod("image: nginx:1.25.3@"+someDigest)),
		file("pod with a digest pulled always", "pod.yaml", pod("{image: 'nginx@"+someDigest+"', imagePullPolicy: Always}"), "5:111 pull-policy-needless"),
		file("pull policy in the wrong case", "pod.yaml", pod("{image: 'nginx@"+someDigest+"', imagePullPolicy: always}"), "5:111 pull-policy-unknown"),
		file("image that no registry has", "pod.yaml", pod("image: Nginx:1.0.0"), "5:12 image-invalid"),
		file("digest cut short", "pod.yaml", pod("image: nginx@sha256:0123"), "5:12 image-invalid"),
		file("variable that says only where it is", "pod.yaml", pod("{image: '$(REGISTRY)/nginx:stable', imagePullPolicy: IfNotPresent}\n  - image: ${R}/a/nginx\n  - image: ${R}/nginx:1.2.3\n  - image: ${R:-a/b}"),
			"5:13 image-tag-floating", "5:58 pull-policy-stale", "6:12 image-tag-missing", "7:12 image-variable", "8:12 image-variable"),
		file("image of a variable", "pod.yaml", pod("image: nginx:$(TAG)"), "5:12 image-variable"),
		file("registry with a port is no tag", "pod.yaml", pod("image: localhost:5000/nginx"), "5:12 image-tag-missing"),
		file("what stands before a mistake is judged", "all.yaml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: nginx}]}\n---\napiVersion: [\n", "0:0 file-unread", "3:29 image-tag-missing"),
		file("several documents and kinds that are not known", "all.yaml",
			"apiVersion: example.com/v1\nkind: Thing\nspec:\n  template:\n    spec:\n      initContainers:\n      - image: a:1.0.0\n---\napiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  spec: {ephemeralContainers: [{image: b:2.0.0}]}\n---\nother: {image: latest}\n",
			"7:16 image-digest-missing", "13:40 image-digest-missing"),
		file("image of a volume", "pod.yaml", "apiVersion: v1\nkind: Pod\nspec:\n  volumes:\n  - image: {reference: 'models:v1', pullPolicy: Never}\n", "5:24 image-tag-floating", "5:49 pull-policy-stale"),
		file("alias and merge are followed, each place told once", "pod.yaml",
			"apiVersion: v1\nkind: Pod\nbase: &b {image: 'a:edge', imagePullPolicy: Always}\nspec:\n  containers: &c\n  - <<: *b\n  - {<<: *b, name: two}\n  initContainers: *c\n", "3:18 image-tag-floating"),
		file("object as JSON", "pod.json", `{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"image":"nginx"}]}}`, "1:64 image-tag-missing"),
		file("key that stands twice", "pod.yaml", pod("image: a:1.2.3@"+someDigest+"\n    image: b:latest\nx: {<<: {}, <<: {}}"), "6:5 file-unread"),
		file("JSON with escaped slashes", "pod.json", `{"apiVersion":"v1","kind":"Pod","x":"\\/","spec":{"containers":[{"image":"a.example.com\/b\/nginx"}]}}`, "1:74 image-tag-missing"),
		file("object as JSON with escapes that YAML has not", "pod.json", `{"apiVersion":"v\/1","kind":"Pod","a\/b\"\\":"\ud83d\ude00 \uD800 \ud83d\u0022","spec":{"containers":[{"image":"a\/b:1.2.3"},{"image":"nginx"}]}}`, "1:112 image-digest-missing", "1:135 image-tag-missing"),
		file("JSON of something else", "x.json", `{"containers":[{"image":"nginx"}]}`),
		file("kustomization", "kustomization.yaml",
			"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nimages:\n- {name: a, newTag: latest}\n- {name: b, newTag: 1.2.3, digest: '"+someDigest+"'}\nresources:\n- https://github.com/x/y//base?ref=main\n- https://github.com/x/y//base?ref=v1.2.3\n- local\n",
			"4:21 image-tag-floating", "7:3 ci-ref-floating", "8:3 ci-commit-missing"),
		file("kustomization that does not say so", "kustomization.yml", "images:\n- {name: a, newTag: latest}\n", "2:21 image-tag-floating"),
		file("kustomization without a suffix", "Kustomization", "bases:\n- github.com/x/y\n", "2:3 ci-ref-floating"),
		file("kustomization of another name", "k.yaml", "kind: Kustomization\nimages:\n- {name: a, newTag: latest}\n", "3:21 image-tag-floating"),
		file("values of a chart", "values.yaml", "web:\n  image: {registry: r.example.com, repository: web, tag: stable, pullPolicy: IfNotPresent}\nown: {repository: o, tag: ''}\n",
			"2:58 image-tag-floating", "2:78 pull-policy-stale"),
		file("values that a chart renders", "values.yaml", "image: {repository: a, tag: stable}\nname: '{{ .Release.Name }}'\n", "1:29 image-tag-floating", "1:29 pull-policy-stale"),
		file("template is not taken for clean", "deploy.yaml", "apiVersion: v1\nkind: Pod\n{{- if .x }}\nspec: {}\n{{- end }}\n", "0:0 file-unread"),

		file("compose", "compose.yaml", "services:\n  a: {image: redis}\n  b: {image: 'redis:7.2.4'}\n  c: {image: built:latest, build: .}\n  d: {image: redis:7, pull_policy: always}\n  e: {image: redis:7, pull_policy: never}\n  f: {image: 'redis@"+someDigest+"', pull_policy: often}\n",
			"2:14 image-tag-missing", "2:14 pull-policy-stale", "3:14 image-digest-missing", "5:14 image-tag-floating", "6:14 image-tag-floating", "6:36 pull-policy-stale", "7:108 pull-policy-unknown"),
		file("variables of compose have their defaults", "docker-compose.prod.yml", "services:\n  a: {image: 'x:${TAG:-latest}', pull_policy: always}\n  b: {image: 'x:${TAG:-1.0.0}'}\n  c: {image: 'x:${TAG:?}'}\n  d: {image: 'x:1.0.0@$${D}'}\n",
			"2:14 image-tag-floating", "3:14 image-digest-missing", "4:14 image-variable", "5:14 image-variable"),
		file("what compose builds from", "compose.yaml", "services:\n  a:\n    image: built:latest\n    build:\n      dockerfile_inline: |\n        FROM alpine:latest AS x\n        FROM x\n        COPY --from=busybox /a /a\n      additional_contexts: {b: 'docker-image://redis', c: ../c}\n  b:\n    build: {dockerfile_inline: FROM alpine, additional_contexts: [d=docker-image://tools:1.2.3, e=./e]}\n    volumes: [x:/x, {type: image, source: data:v1, target: /d}, {type: volume, source: v, target: /v}]\n",
			"6:14 image-tag-floating", "8:21 image-tag-missing", "9:32 image-tag-missing", "11:32 image-tag-missing", "11:67 image-digest-missing", "12:43 image-tag-floating"),
		file("compose under another name", "stack.yml", "services:\n  a:\n    image: redis:7.2.4\n", "3:12 image-digest-missing"),
		file("YAML of something else", "notes.yaml", "services: [a, b]\nimage: latest\n"),

		file("Dockerfile", "Dockerfile", "# syntax=docker/dockerfile:1\nARG V=1.2.3\nARG W\nFROM --platform=linux/amd64 golang:${V} AS Build\nFROM build AS again\nFROM scratch\nFROM alpine:${W}\nFROM alpine:3.19 \\\n  AS last\nCOPY --from=build /a /a\nCOPY --from=0 /a /a\nCOPY --chown=1 --from=busybox /a /a\nRUN --mount=type=bind,from=tools:v2.0.1,target=/t make\n",
			"1:10 image-tag-floating", "4:29 image-digest-missing", "7:6 image-variable", "8:6 image-tag-floating", "12:23 image-tag-missing", "13:28 image-digest-missing"),
		file("heredoc and comment are no instructions", "Containerfile", "FROM scratch\nRUN <<EOF\nFROM nginx\nEOF\n# FROM nginx\nRUN a \\\n# FROM nginx\n  b\nCOPY <<-\"X\" /x\n\tFROM nginx\n\tX\nFROM nginx\n", "12:6 image-tag-missing"),
		file("stage chosen by the builder", "Dockerfile", "FROM scratch AS bin-linux\nFROM bin-${TARGETOS}\nFROM ${TARGETOS}\n", "3:6 image-variable"),
		file("ARG of another ARG", "Dockerfile", "ARG V=latest\nARG I=nginx:${V}\nFROM ${I}\n", "3:6 image-tag-floating"),
		file("ARG of which a part is taken", "Dockerfile", "ARG V=1.22.3\nARG U\nFROM golang:${V%.*}\nFROM a:${V#1.}.0\nFROM a:${V%%.*}\nFROM a:${V##*.}-x\nFROM a:${V:+1.2.3}\nFROM a:${U:+1.2.3}\nFROM a:${V/1/2}\nFROM a:${V%[}\nFROM a:${V:?want}\nFROM a:${V%}\n",
			"3:6 image-tag-floating", "4:6 image-digest-missing", "5:6 image-tag-floating", "6:6 image-tag-floating", "7:6 image-digest-missing", "8:6 image-variable", "9:6 image-variable", "10:6 image-digest-missing", "11:6 image-digest-missing", "12:6 image-digest-missing"),
		file("ARG that multiplies", "Dockerfile", "ARG A=aaaaaaaa\n"+strings.Repeat("ARG A="+strings.Repeat("$A", 40)+"\n", 30)+"FROM $A\n", "32:6 image-variable"),
		file("default of ARG that is not needed", "Dockerfile", "ARG V=1.2.3\nFROM a:${V:-${W}}\nFROM b:${V:-$W}\n", "2:6 image-digest-missing", "3:6 image-digest-missing"),
		file("what is done in builds from here", "Dockerfile", "FROM scratch\nONBUILD COPY --from=busybox /a /a\nonbuild run --mount=from=tools,target=/t \\\n make\n", "2:21 image-tag-missing", "3:13 image-tag-missing"),
		file("escape of Windows", "win.Dockerfile", "# escape=`\nFROM `\n  nginx\n", "2:6 image-tag-missing"),
		file("no image", "Dockerfile", "FROM\n", "1:5 image-invalid"),
		file("Go file with such a name", "dockerfile.go", "FROM nginx\n"),
	}
}

func pipelineScenarios() []scenario {
	commit := strings.Repeat("0a", 20)
	return []scenario{
		file("workflow", ".github/workflows/ci.yml", "on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    container: node:20\n    services:\n      db: {image: 'postgres:16.1'}\n    steps:\n    - uses: actions/checkout@v4\n    - uses: actions/setup-go@v5.0.1\n    - uses: actions/cache@"+commit+" # v4\n    - uses: ./local\n    - uses: docker://alpine:3.19.1\n    - uses: other/thing\n  b:\n    runs-on: [self-hosted, windows-latest]\n    uses: o/r/.github/workflows/x.yml@main\n",
			"4:14 ci-runner-floating", "5:16 image-tag-floating", "7:19 image-tag-floating", "9:13 ci-ref-floating", "10:13 ci-commit-missing", "13:13 image-digest-missing", "14:13 ci-ref-floating", "16:28 ci-runner-floating", "17:11 ci-ref-floating"),
		file("action in a container", "action.yml", "runs:\n  using: docker\n  image: docker://alpine\n", "3:10 image-tag-missing"),
		file("steps of a workflow use what it sets", ".github/workflows/x.yaml", "env: {A: 1}\njobs:\n  a:\n    steps:\n    - env: {B: 2}\n      run: |\n        echo $A $B $GITHUB_SHA ${{ secrets.X }}\n        echo $C\n    - run: Get-Item $X\n      shell: pwsh\n    - run: docker pull alpine\n    - run: echo \"D=1\" >>$GITHUB_ENV\n    - run: echo $D\n    - run: echo $env:X\n", "8:1 env-undeclared", "11:12 image-tag-missing"),
		file("steps for PowerShell", ".github/workflows/x.yaml", "jobs:\n  a:\n    runs-on: windows-2022\n    steps:\n    - run: $v = Get-Content VERSION; echo $v\n    - run: echo $B\n      shell: bash\n  b:\n    runs-on: ubuntu-24.04\n    defaults: {run: {shell: pwsh}}\n    steps: [{run: 'echo $C'}]\n  c:\n    runs-on: ${{ matrix.os }}\n    strategy: {matrix: {os: [ubuntu-24.04, windows-2022]}}\n    steps: [{run: 'echo $D'}]\n  d:\n    runs-on: windows-2022\n    defaults: {run: {shell: bash}}\n    steps: [{run: 'echo $E'}]\n  e:\n    runs-on: ${{ matrix.os }}\n    strategy: {matrix: {os: [ubuntu-24.04]}}\n    steps: [{run: 'echo $F'}]\n",
			"6:12 env-undeclared", "19:19 env-undeclared", "23:19 env-undeclared"),
		file("workflow for PowerShell", ".github/workflows/x.yaml", "defaults: {run: {shell: pwsh}}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps: [{run: 'echo $A'}]\n"),
		file("pipeline of GitLab", ".gitlab-ci.yml", "variables: {V: '1.2.3'}\nimage: {name: 'go:${V}', pull_policy: if-not-present}\ninclude:\n- {project: a/b, file: x.yml}\n- {project: a/b, ref: 1.0.0, file: x.yml}\n- {remote: 'https://example.com/x.yml'}\n- component: g.example.com/c/d@~latest\nbuild:\n  image: {name: go, pull_policy: [always, if-not-present]}\n  services: [redis, {name: 'db:1.0.0'}]\n  script:\n  - echo $V $CI_COMMIT_SHA\n  - echo $OTHER\n",
			"2:15 image-digest-missing", "4:13 ci-ref-floating", "5:13 ci-commit-missing", "6:12 ci-ref-floating", "7:14 ci-ref-floating", "9:17 image-tag-missing", "9:43 pull-policy-stale", "10:14 image-tag-missing", "10:28 image-digest-missing", "13:5 env-undeclared"),
		file("what runs before a script of GitLab in its shell", ".gitlab-ci.yml", "default: {before_script: [A=1]}\n.base: {before_script: ['B=1', !reference [.more, script]], script: ['echo $B $S']}\n.more: {script: [C=1]}\na:\n  before_script: [export S=1]\n  script: ['echo $S', 'echo $A']\n  after_script: ['echo $S']\nb: {script: ['echo $A', 'echo $B']}\nc: {extends: .base, script: ['echo $B $C', 'echo $A']}\nd: {extends: [.base], before_script: [S=1]}\ne: {script: ['echo $M'], parallel: {matrix: [{M: [x, y]}]}}\nf: {extends: .elsewhere, script: ['echo $X']}\ng: {script: [!reference [.elsewhere, script], 'echo $X']}\nh: {before_script: ['. ./x'], script: ['echo $X']}\n",
			"6:23 env-undeclared", "7:18 env-undeclared", "8:25 env-undeclared", "9:44 env-undeclared"),
		file("variables of GitLab have their values", ".gitlab-ci.yml", "variables: {IMG: alpine, TAG: {value: latest}, ALL: 'a:$V', V: 1.2.3, NONE: ''}\na: {image: '$IMG:$TAG'}\nb: {image: $ALL, variables: {V: '1'}}\n.t: {variables: {V: stable}}\nc: {extends: .t, image: $ALL, services: ['b:${V}']}\nd: {image: 'a:$V', rules: [{if: $X, variables: {V: '1'}}]}\ne: {image: 'a:$V', parallel: {matrix: [{V: [x, y]}]}}\nf: {image: 'a:$NONE'}\ng: {image: $LOOP, variables: {LOOP: $LOOP}}\nh: {image: '$IMG@"+someDigest+"'}\n",
			"2:12 image-tag-floating", "3:12 image-tag-floating", "5:25 image-tag-floating", "5:42 image-tag-floating", "6:12 image-variable", "7:12 image-variable", "8:12 image-variable", "9:12 image-variable"),
		file("pull policies of GitLab", ".gitlab-ci.yml", "a: {image: {name: 'a@"+someDigest+"', pull_policy: Always}}\nb: {image: {name: 'a@"+someDigest+"', pull_policy: [always, sometimes, if-not-present, $P]}}\n", "1:109 pull-policy-unknown", "2:118 pull-policy-unknown"),
		file("CircleCI", ".circleci/config.yml", "orbs: {node: circleci/node@5.1, go: circleci/go@1.7.3}\njobs:\n  a:\n    docker: [{image: 'cimg/go:1.22'}, {image: 'x:<< parameters.v >>'}]\n  b:\n    machine: {image: 'ubuntu-2204:current'}\n", "1:14 ci-ref-floating", "4:22 image-tag-floating", "4:47 image-variable", "6:22 ci-runner-floating"),
		file("Woodpecker", ".woodpecker.yml", "steps:\n- image: golang\n", "2:10 image-tag-missing"),
		file("Azure and Bitbucket", "azure-pipelines.yml", "pool: {vmImage: ubuntu-latest}\nsteps:\n- pipe: atlassian/x:1\n", "1:17 ci-runner-floating", "3:9 ci-ref-floating"),
	}
}

// TestWorkflowIsKnownWhereverThePathBegins: pre-commit hooks name single files.
func TestWorkflowIsKnownWhereverThePathBegins(t *testing.T) {
	dir := write(t, map[string]string{".github/workflows/ci.yml": "jobs: {a: {steps: [{uses: a/b@main}]}}\n", ".circleci/config.yml": "orbs: {a: a/b@1}\n"})
	for _, path := range []string{"", ".github", ".github/workflows", ".github/workflows/ci.yml", ".circleci", ".circleci/config.yml"} {
		report := judge(t, "", Config{Paths: []string{filepath.Join(dir, filepath.FromSlash(path))}})
		want := 1
		if path == "" {
			want = 2
		}
		if len(report.Findings) != want || report.Files != want || report.Findings[0].Rule != ciRefFloating {
			t.Errorf("%q: %d files, %+v", path, report.Files, report.Findings)
		}
	}
}

func scriptScenarios() []scenario {
	return []scenario{
		file("script that declares nothing", "a.sh", "#!/bin/sh\njq . \"$INPUT\"\ncurl \"$URL\" | jq .\n", "2:1 tool-undeclared", "2:7 env-undeclared", "3:1 tool-undeclared", "3:7 env-undeclared"),
		file("script that looks first", "a.sh", "#!/bin/sh\ncommand -v jq >/dev/null || exit 1\ntype curl\n: \"${INPUT:?a file}\" \"${URL:-x}\"\njq . \"$INPUT\"; curl \"$URL\"\n[ -z \"$OPT\" ] || echo \"$OPT\"\n"),
		file("script with comments", "a.sh", "# agentd-audit: tools jq, curl\n# agentd-audit: env INPUT\njq . \"$INPUT\" | curl x\n"),
		file("what a script sets", "a.bash", "f() { local x; x=$1; echo \"$x\" \"$@\" $#; }\nf\nfor i in 1 2; do echo $i; done\nread -r a b <<<x; echo $a $b\nwhile getopts ab: o; do echo $o $OPTARG; done\nprintf -v p x; echo $p $HOME\n((n = 1)); ((m++)); echo $n $m\nmapfile -t all; echo ${all[0]}\nexec {fd}>x; echo $fd\n"),
		file("programs behind others", "a.sh", "exec sudo jq\nenv A=1 yq\nxargs rg\n./own; /usr/bin/x; $any\ncommand fd\nany=\n", "1:6 tool-undeclared", "1:11 tool-undeclared", "2:9 tool-undeclared", "3:7 tool-undeclared", "5:9 tool-undeclared"),
		file("programs that a loop looks for", "a.sh", "for t in curl \"jq\"; do\n  command -v \"$t\" >/dev/null || exit 1\ndone\nfor t in rg; do $t; done\ncurl x | jq .; rg; echo \"$_\"\n", "5:16 tool-undeclared"),
		file("programs behind options of others", "a.sh", "# agentd-audit: tools sudo, doas\ntimeout -k 1 5 ssh-a\nxargs -0 -n1 -I{} --max-procs 4 helm-a {}\nsudo -Eu root -- A=1 terraform-a\nnice -n 5 stdbuf -oL n-a\nenv -i -u X e-a\nexec -a x ex-a\nsudo -l l-a\nsudo -n$X x\nX=\n", "2:16 tool-undeclared", "3:33 tool-undeclared", "4:22 tool-undeclared", "5:22 tool-undeclared", "6:13 tool-undeclared", "7:11 tool-undeclared"),
		file("programs in scripts of one word", "a.sh", "a= b=\nsh -c \"kubectl get $a | grep \\\"x y\\\"\"\nbash -euo pipefail -c 'f() { :; }; f; echo $NOT_OURS; rg'\nsudo() { :; }\nsudo -u x bash -lc \"$a\" jq\nsh x; bash -c \"$a b; ${b}c d\"; sh -c '('\n", "2:7 tool-undeclared", "3:23 tool-undeclared"),
		file("utilities of POSIX", "a.sh", "nm x; strip x; c99 x; lex x; yacc x; mailx x; uuencode x; uudecode x; gencat x\nln x; gcc x\n", "2:7 tool-undeclared"),
		file("script without a suffix", "run", "#!/usr/bin/env bash\nset -e\njq\n", "3:1 tool-undeclared"),
		file("file without a suffix", "LICENSE", "jq\n"),
		file("script of another language", "x.sh", "#!/usr/bin/env python\nimport x\n"),
		file("no script", "a.sh", "if then (\n", "0:0 file-unread"),
		file("images in scripts", "a.sh", "# agentd-audit: tools docker\ndocker pull redis\ndocker run --rm -v a:b -e X=$HOME redis:7.2.4 x\ndocker build -t x .\n", "2:13 image-tag-missing", "3:35 image-digest-missing"),
		file("options before the command of docker", "a.sh", "# agentd-audit: tools docker, podman, nerdctl\ndocker --context far -D --tls pull a\ndocker -H tcp://x run --rm b\npodman --remote --url=x --log-level debug create c\nnerdctl -n k8s.io pull d\ndocker --context\ndocker $o pull e\no=\n",
			"2:36 image-tag-missing", "3:28 image-tag-missing", "4:50 image-tag-missing", "5:24 image-tag-missing"),
		file("images behind others", "a.sh", "# agentd-audit: tools docker, flock, gosu, ionice, tini\nx= \nflock -w 5 /run/lock docker pull a\ngosu app docker run b\nionice -c 3 tini -- docker run c\nfind . -name x -exec docker run d {} \\; -execdir docker run e ';'\nfind . -exec docker run f {} +\nsh -c 'docker run g'\nsudo() { :; }\nsudo bash -c \"docker run h; docker run $x; docker run h2:$x\"\nflock /run/lock -c x\nfind . -exec\n",
			"3:34 image-tag-missing", "4:21 image-tag-missing", "5:32 image-tag-missing", "6:33 image-tag-missing", "6:61 image-tag-missing", "7:25 image-tag-missing", "8:7 image-tag-missing", "10:14 image-tag-missing"),
		file("options that have the next word for their value", "a.sh", "# agentd-audit: tools docker, podman\ndocker run --pids-limit 100 --cpuset-cpus 0-3 --dns-search corp --stop-signal SIGTERM -itv a:b -p80:80 --rm -dP redis x\npodman run --tls-verify --uts host --secret s --replace -ie A redis:7.2.4 latest\ndocker pull -a redis\nnerdctl=1; docker run --init --net=host -h x redis\npodman run --rootfs dir x\ndocker create a\ndocker image pull b\ndocker container run --rm c\ndocker volume create d\n",
			"2:113 image-tag-missing", "3:63 image-digest-missing", "4:16 image-tag-missing", "5:46 image-tag-missing", "7:15 image-tag-missing", "8:19 image-tag-missing", "9:27 image-tag-missing"),
		{"script that sources what is there", map[string]string{"bin/a.sh": ". \"$(dirname \"$0\")/lib.sh\"\necho $SET $UNSET\nhelp_me\n", "bin/lib.sh": "SET=1\nhelp_me() { :; }\n"}, []string{"bin/a.sh:2:11 env-undeclared"}},
		file("script that sources what is not", "a.sh", "source /etc/os-release\necho $ID\njq\n", "1:1 source-unread"),
		file("script that sources itself", "a.sh", ". ./a.sh\n", "1:1 source-unread"),
	}
}

func lockScenarios() []scenario {
	npm := `{"dependencies":{"a":"^1.0.0"},"devDependencies":{"b":"2"}}`
	npmLock := func(a string) string {
		return `{"lockfileVersion":3,"packages":{"":{"dependencies":{"a":"` + a + `"},"devDependencies":{"b":"2"}},"node_modules/a":{},"node_modules/b":{}}}`
	}
	goMod := "module x\n\ngo 1.26\n\nrequire (\n\tgolang.org/x/mod v0.43.0\n\texample.com/local v1.0.0\n)\n\nreplace example.com/local => ../local\n"
	cargo := "[package]\nname='x'\n[dependencies]\nserde = \"1.0\"\nown = {path='../own'}\nren = {package='real', version='2'}\n[target.'cfg(unix)'.dependencies]\nlibc = '0.2'\n"
	cargoLock := func(serde string) string {
		return "version = 4\n[[package]]\nname='serde'\nversion='" + serde + "'\n[[package]]\nname='own'\nversion='0.1.0'\n[[package]]\nname='real'\nversion='2.1.0'\n[[package]]\nname='libc'\nversion='0.2.5'\n"
	}
	chart := "apiVersion: v2\ndependencies:\n- {name: db, version: ~1.2.0, repository: 'https://c.example.com'}\n"
	return []scenario{
		file("npm without a lock", "package.json", npm, "1:1 lock-missing"),
		file("npm without dependencies", "package.json", `{"name":"x"}`),
		file("no JSON", "package.json", `{`, "0:0 file-unread"),
		{"npm", map[string]string{"package.json": npm, "package-lock.json": npmLock("^1.0.0")}, nil},
		{"npm with another range", map[string]string{"package.json": npm, "package-lock.json": npmLock("^0.9.0")}, []string{"package.json:1:18 lock-stale"}},
		{"npm with one too few", map[string]string{"package.json": npm, "package-lock.json": `{"lockfileVersion":3,"packages":{"":{"dependencies":{"a":"^1.0.0"}},"node_modules/a":{}}}`}, []string{"package.json:1:51 lock-stale"}},
		{"npm with one too many", map[string]string{"package.json": `{"dependencies":{"a":"^1.0.0"}}`, "package-lock.json": npmLock("^1.0.0")}, []string{"package.json:1:1 lock-stale"}},
		{"npm of old", map[string]string{"package.json": npm, "package-lock.json": `{"lockfileVersion":1,"dependencies":{"a":{}}}`}, []string{"package.json:1:51 lock-stale"}},
		{"workspace of npm", map[string]string{"package.json": `{}`, "w/package.json": `{"dependencies":{"a":"1"}}`, "package-lock.json": `{"lockfileVersion":3,"packages":{"":{},"w":{"dependencies":{"a":"1"}},"node_modules/a":{}}}`}, nil},
		{"member that the lock does not know", map[string]string{"w/package.json": `{"dependencies":{"a":"1"}}`, "package-lock.json": `{"lockfileVersion":3,"packages":{"":{}}}`}, []string{"w/package.json:1:1 lock-missing"}},
		{"yarn", map[string]string{"package.json": npm, "yarn.lock": "# yarn lockfile v1\n\na@^1.0.0, a@^1.1.0:\n  version \"1.1.0\"\n\"b@npm:2\":\n  version: 2.0.0\n"}, nil},
		{"yarn with another range", map[string]string{"package.json": npm, "yarn.lock": "a@^1.1.0:\n  version \"1.1.0\"\nb@2:\n  version 2.0.0\n"}, []string{"package.json:1:18 lock-stale"}},
		{"pnpm", map[string]string{"package.json": npm, "pnpm-lock.yaml": "importers:\n  .:\n    dependencies:\n      a: {specifier: ^1.0.0, version: 1.0.0}\n    devDependencies:\n      b: {specifier: '2', version: 2.0.0}\n"}, nil},
		{"pnpm with another range", map[string]string{"package.json": npm, "pnpm-lock.yaml": "specifiers: {a: ^0.9.0, b: '2'}\n"}, []string{"package.json:1:18 lock-stale"}},
		{"npm at a version that is not asked for", map[string]string{"package.json": npm, "package-lock.json": `{"lockfileVersion":3,"packages":{"":{"dependencies":{"a":"^1.0.0"},"devDependencies":{"b":"2"}},"node_modules/a":{"version":"0.9.0"},"node_modules/b":{"version":"2.7.1"}}}`}, []string{"package.json:1:18 lock-stale"}},
		{"npm of old at such a version", map[string]string{"package.json": npm, "package-lock.json": `{"lockfileVersion":1,"dependencies":{"a":{"version":"1.2.0","requires":{"c":"1"},"dependencies":{"c":{}}},"b":{"version":"1.9.0"}}}`}, []string{"package.json:1:51 lock-stale"}},
		{"npm at versions that cannot be compared", map[string]string{"package.json": `{"dependencies":{"a":"npm:c@^2","b":"file:b","c":"latest","d":"^1.0.0-rc.1","e":"1.x || >=2.5.0 <3"}}`, "package-lock.json": `{"lockfileVersion":3,"packages":{"":{"dependencies":{"a":"npm:c@^2","b":"file:b","c":"latest","d":"^1.0.0-rc.1","e":"1.x || >=2.5.0 <3"}},"node_modules/a":{"version":"1.0.0"},"node_modules/b":{"link":true},"node_modules/c":{"version":"3.0.0"},"node_modules/d":{"version":"1.0.0-rc.2"},"node_modules/e":{"version":"2.6.0"}}}`}, nil},
		{"bun", map[string]string{"package.json": npm, "bun.lock": "{\n  \"lockfileVersion\": 1,\n  \"workspaces\": {\n    \"\": {\n      \"name\": \"x\",\n      \"dependencies\": {\n        \"a\": \"^1.0.0\",\n      },\n      \"devDependencies\": { \"b\": \"2\" },\n    },\n  },\n  \"packages\": {\n    \"a\": [\"a@1.3.0\", \"\", {}, \"sha512-x==\"],\n\n    \"b\": [\"b@2.0.0\", \"\", {}, \"\"],\n  }\n}\n"}, nil},
		{"bun with another range", map[string]string{"package.json": npm, "bun.lock": `{"workspaces":{"":{"dependencies":{"a":"^1.2.0"},"devDependencies":{"b":"2"}}},"packages":{"a":["a@1.3.0"]}}`}, []string{"package.json:1:18 lock-stale", "package.json:1:51 lock-stale"}},
		{"bun at a version that is not asked for", map[string]string{"package.json": npm, "bun.lock": `{"workspaces":{"":{"name":"x","dependencies":{"a":"^1.0.0"},"devDependencies":{"b":"2"}}},"packages":{"a":["a@1.3.0"],"b":["b@2.0.0"],"x/a":["a@2.0.0"]}}`}, []string{"package.json:1:18 lock-stale"}},
		{"bun without this package", map[string]string{"w/package.json": npm, "bun.lock": `{"workspaces":{"":{}}}`}, []string{"w/package.json:1:1 lock-missing"}},
		{"lock of bun that is none", map[string]string{"package.json": npm, "bun.lock": "{"}, []string{"package.json:0:0 file-unread"}},
		{"binary lock of bun", map[string]string{"package.json": npm, "bun.lockb": ""}, []string{"package.json:0:0 file-unread"}},
		file("Go without sums", "go.mod", goMod, "1:1 lock-missing"),
		{"Go", map[string]string{"go.mod": goMod, "go.sum": "golang.org/x/mod v0.43.0/go.mod h1:x=\n"}, nil},
		{"Go with the sums of another version", map[string]string{"go.mod": goMod, "go.sum": "golang.org/x/mod v0.42.0/go.mod h1:x=\n"}, []string{"go.mod:6:2 lock-stale"}},
		file("Cargo without a lock", "Cargo.toml", cargo, "1:1 lock-missing"),
		{"Cargo", map[string]string{"Cargo.toml": cargo, "Cargo.lock": cargoLock("1.0.200")}, nil},
		{"Cargo with an older one", map[string]string{"Cargo.toml": cargo, "Cargo.lock": cargoLock("0.9.0")}, []string{"Cargo.toml:4:1 lock-stale"}},
		{"Cargo with one too few", map[string]string{"Cargo.toml": cargo + "rand = '0.8'\n", "Cargo.lock": cargoLock("1.0.0")}, []string{"Cargo.toml:9:1 lock-stale"}},
		file("Poetry without a lock", "pyproject.toml", "[tool.poetry.dependencies]\npython='^3.12'\nrequests='*'\n", "1:1 lock-missing"),
		{"Poetry", map[string]string{"pyproject.toml": "[tool.poetry.dependencies]\nRequests='*'\n[tool.poetry.group.dev.dependencies]\npytest='*'\n", "poetry.lock": "[[package]]\nname='requests'\nversion='2.0.0'\n"}, []string{"pyproject.toml:4:1 lock-stale"}},
		{"uv", map[string]string{"pyproject.toml": "[project]\ndependencies=['a_b>=1', 'win; sys_platform==\"win32\"']\n", "uv.lock": "[[package]]\nname='a-b'\nversion='1'\n"}, nil},
		{"groups and extras of uv", map[string]string{"pyproject.toml": "[project]\ndependencies=['a']\n[project.optional-dependencies]\nextra=['in_extra']\n[dependency-groups]\ndev=['in-group>=2', 'a', {include-group='x'}]\nx=[]\n[tool.uv]\ndev-dependencies=['in-dev', 'b; sys_platform==\"win32\"']\n", "uv.lock": "[[package]]\nname='a'\nversion='1'\n"}, []string{"pyproject.toml:4:9 lock-stale", "pyproject.toml:6:7 lock-stale", "pyproject.toml:9:20 lock-stale"}},
		{"groups and extras of others", map[string]string{"pyproject.toml": "[project]\ndependencies=['a']\noptional-dependencies={extra=['in_extra']}\n[dependency-groups]\ndev=['in-group>=2']\n", "pdm.lock": "[[package]]\nname='a'\nversion='1'\n"}, nil},
		file("groups alone need no lock", "pyproject.toml", "[dependency-groups]\ndev=['in-group>=2']\n"),
		{"requirements", map[string]string{"requirements.txt": "# x\n-r other.txt\na==1.0 \\\n    --hash=sha256:0\nb>=2 # c\nc==1.*\nd @ https://e.example.com/d.whl#sha256=0\ne @ git+https://e.example.com/e@main\n", "requirements.in": "a\nmissing\n"},
			[]string{"requirements.txt:1:1 lock-stale", "requirements.txt:5:1 requirement-unpinned", "requirements.txt:6:1 requirement-unpinned", "requirements.txt:8:1 requirement-unpinned"}},
		{"requirements that are URLs and paths", map[string]string{"requirements.txt": "https://e.example.com/x.whl#sha256=0\nfoo @ https://e.example.com/x.whl --hash=sha256:0\ngit+https://e.example.com/e@" + strings.Repeat("0a", 20) + "#egg=e\n./local\nb@file:///x\nc[x]@https://e.example.com/x.whl#sha512=0 ; python_version<'4'\nhttps://e.example.com/x.whl\ngit+ssh://git@e.example.com/e\nd==1.0 --hash=sha256:0\ne>=1; python_version=='3'\n", "requirements.in": "https://e.example.com/x.whl\n./local\nc[x]\n"},
			[]string{"requirements.txt:7:1 requirement-unpinned", "requirements.txt:8:1 requirement-unpinned", "requirements.txt:10:1 requirement-unpinned"}},
		{"Pipfile", map[string]string{"Pipfile": "[packages]\na='*'\nb='*'\n", "Pipfile.lock": `{"default":{"a":{}},"develop":{}}`}, []string{"Pipfile:3:1 lock-stale"}},
		{"Gemfile", map[string]string{"Gemfile": "source 'x'\ngem 'rails', '~> 7'\ngem \"pg\"\n", "Gemfile.lock": "GEM\n  specs:\n    rails (7)\n\nDEPENDENCIES\n  rails (~> 7)\n\nBUNDLED\n"}, []string{"Gemfile:3:6 lock-stale"}},
		{"Composer", map[string]string{"composer.json": `{"require":{"php":">=8","a/b":"^1"}}`, "composer.lock": `{"packages":[]}`}, []string{"composer.json:1:26 lock-stale"}},
		file("chart without a lock", "Chart.yaml", chart, "1:1 lock-missing"),
		{"chart", map[string]string{"Chart.yaml": chart, "Chart.lock": "dependencies:\n- {name: db, version: 1.2.7, repository: 'https://c.example.com'}\n"}, nil},
		{"chart with an older one", map[string]string{"Chart.yaml": chart, "Chart.lock": "dependencies:\n- {name: db, version: 1.1.0, repository: 'https://c.example.com'}\n"}, []string{"Chart.yaml:3:10 lock-stale"}},
	}
}

// TestAdviceIsOfTheLockThatIsThere: the command of another manager makes a second
// lock.
func TestAdviceIsOfTheLockThatIsThere(t *testing.T) {
	project := "[project]\ndependencies=['a']\n"
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"pyproject.toml": project, "pdm.lock": ""}, "a is missing in the packages of pdm.lock: run pdm lock"},
		{map[string]string{"pyproject.toml": project, "poetry.lock": ""}, "run poetry lock"},
		{map[string]string{"pyproject.toml": project, "pylock.toml": ""}, "run pip lock"},
		{map[string]string{"pyproject.toml": project, "requirements.txt": ""}, "run pip-compile"},
		{map[string]string{"pyproject.toml": project, "uv.lock": ""}, "run uv lock"},
		{map[string]string{"pyproject.toml": project + "[tool.pdm]\n"}, "there is no pdm.lock beside it: each build takes what is newest; run pdm lock"},
		{map[string]string{"package.json": `{"dependencies":{"a":"workspace:*"}}`, "pnpm-lock.yaml": "importers: {.: {}}\n"}, "a is missing in the dependencies of pnpm-lock.yaml"},
	} {
		report := judge(t, write(t, c.files), Config{})
		if len(report.Findings) != 1 || !strings.Contains(report.Findings[0].Message, c.want) {
			t.Errorf("%v: found %+v, want %q", c.files, report.Findings, c.want)
		}
	}
}

func suppressionScenarios() []scenario {
	return []scenario{
		file("comment in the line", "Dockerfile", "FROM nginx # agentd-audit: ignore image-tag-missing for the tutorial\n"),
		file("comment before the line", "compose.yaml", "services:\n  a:\n    # agentd-audit: ignore image-tag-floating, pull-policy-stale mirrored\n    # by hand\n    image: a:edge\n  b: {image: b:edge}\n", "6:14 image-tag-floating", "6:14 pull-policy-stale"),
		file("comment for another rule", "Dockerfile", "# agentd-audit: ignore image-digest-missing x\nFROM nginx\n", "2:6 image-tag-missing"),
		file("comment for one use of several", "a.sh", "# agentd-audit: ignore tool-undeclared, env-undeclared only here\nhelm $A\n\nhelm $A; helm\nhelm $A # agentd-audit: ignore tool-undeclared nor here\n", "4:1 tool-undeclared", "4:6 env-undeclared"),
		file("comment for the file", "a.sh", "# agentd-audit: ignore-file tool-undeclared a developer's own\njq\ncurl $X\n", "3:6 env-undeclared"),
		file("comment without a reason", "Dockerfile", "# agentd-audit: ignore image-tag-missing\nFROM nginx\n", "1:1 suppression-invalid", "2:6 image-tag-missing"),
		file("comment with a rule that is none", "Dockerfile", "# agentd-audit: ignore image-tag x\n# agentd-audit: forgive\n", "1:1 suppression-invalid", "2:1 suppression-invalid"),
		file("text of a script", "a.sh", "cat <<E\n# agentd-audit: ignore-file tool-undeclared x\nE\necho \"# agentd-audit: ignore tool-undeclared x\"; wget x # why # not\n: <<E # agentd-audit: ignore tool-undeclared x\n$(jq) E\nE\nyq # it's so # agentd-audit: ignore tool-undeclared x\n", "4:50 tool-undeclared", "6:3 tool-undeclared"),
		file("text of a YAML file", "compose.yaml", "x: |2\n    # agentd-audit: ignore-file image-tag-missing a\n  # agentd-audit: ignore-file image-tag-missing b\n# it's\ny: &y 'it''s\n # agentd-audit: ignore-file image-tag-missing c'\nz: {b: \"\\\" # agentd-audit: ignore-file image-tag-missing c\"}\nservices:\n  a: {image: a, pull_policy: always}\n  'b': {image: 'b', pull_policy: always} # agentd-audit: ignore image-tag-missing why not\n", "9:14 image-tag-missing"),
		file("text of a script in YAML", ".github/workflows/x.yml", "jobs:\n  a:\n    steps:\n    - run: |\n        # agentd-audit: ignore env-undeclared it is\n        echo $A\n        cat <<E\n        # agentd-audit: ignore env-undeclared x\n        $B\n        E\n    - run: >- # agentd-audit: ignore env-undeclared x\n\n        echo $C\n\n", "9:1 env-undeclared", "13:1 env-undeclared"),
		file("text of a Dockerfile", "Dockerfile", "FROM scratch\nRUN <<E\n# agentd-audit: ignore-file image-tag-missing x\nE\nRUN echo '# agentd-audit: ignore-file image-tag-missing x'\nFROM a\nFROM b # agentd-audit: ignore image-tag-missing x\n", "6:6 image-tag-missing"),
		file("comment behind another", "Cargo.toml", "[dependencies] # it's # agentd-audit: ignore lock-missing x\na = '1'\n"),
		file("text of another file", "Cargo.toml", "[dependencies]\na = '# agentd-audit: ignore-file lock-missing x'\n", "1:1 lock-missing"),
		file("text that is no comment", "pod.yaml", "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: nginx, args: ['agentd-audit: ignore image-tag-missing x']}]}\n", "3:29 image-tag-missing"),
	}
}

// TestASuppressedUseIsCountedOnce and not as often as the script has it.
func TestASuppressedUseIsCountedOnce(t *testing.T) {
	dir := write(t, map[string]string{"a.sh": "# agentd-audit: ignore-file tool-undeclared x\njq\njq\njq # agentd-audit: ignore tool-undeclared y\n"})
	if report := judge(t, dir, Config{}); len(report.Findings) != 1 || report.Findings[0].Line != 2 {
		t.Errorf("found %+v, want the first alone", report.Findings)
	}
}

func TestWhatMovesIsFoundWhereItStandsAndNothingElse(t *testing.T) {
	seen := map[string]bool{gitNotAtTag: true, gitDirty: true} // of another test
	for _, s := range slices.Concat(imageScenarios(), pipelineScenarios(), scriptScenarios(), lockScenarios(), suppressionScenarios()) {
		t.Run(s.name, func(t *testing.T) {
			dir := write(t, s.files)
			report := judge(t, dir, Config{})
			got := lines(dir, report)
			if !slices.Equal(got, s.want) {
				t.Errorf("found\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(s.want, "\n  "))
				for _, f := range report.Findings {
					t.Log(f.Message)
				}
			}
			for _, f := range report.Findings {
				seen[f.Rule] = true
			}
		})
	}
	for _, rule := range Rules() {
		if !seen[rule.ID] {
			t.Errorf("no scenario breaks rule %s", rule.ID)
		}
	}
}
