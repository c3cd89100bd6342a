// Package audit reads what describes how software is built and run
// (Kubernetes manifests, Compose files, Dockerfiles, CI files, shell scripts,
// manifests of packages with their locks, the git tree) and tells what can
// come to mean something else tomorrow.
//
// # What is guaranteed
//
// Nothing that is read is executed, sourced, expanded by a shell or handed to
// another program. Symbolic links below a path that was given are not
// followed, and nothing outside of it is read, but for the git directory that
// it belongs to. That is read by git with none of the repository's own
// configuration, which could name programs to run. What is read is bounded in
// size, depth and number; what goes beyond is reported as unread, never taken
// for clean. The network is used by Images and Actions alone, where a report is
// resolved.
//
// # What is not
//
// That a clean report means reproducible: a digest pins an image and not what
// a build fetches with its package manager. Files in templates (Helm,
// Jinja) that are no YAML before they are rendered are reported as unread:
// audit what they render to.
package audit
