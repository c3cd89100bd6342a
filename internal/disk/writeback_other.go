//go:build !linux

package disk

func (*Writeback) start(int64) {}

func (*Writeback) wait(int64) {}
