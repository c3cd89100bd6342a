// Package faults has no code: its tests put a real agent process beside real
// etcd processes, single and as a cluster, break something, and say what the
// agent reported meanwhile, how long it took to be right again, and whether a
// change was lost.
//
//	go test -v ./faults
//
// PERENNIAL_FAULTS_REPORT names a file to which each fault adds a line with
// its figures. PERENNIAL_FAULTS_SOAK multiplies how long the faults last, for
// those whose length is a choice: 10 for ten times as long.
package faults
