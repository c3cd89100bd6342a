package disk

import "golang.org/x/sys/unix"

func (w *Writeback) start(offset int64) {
	_ = unix.SyncFileRange(int(w.file.Fd()), offset, writebackChunk, unix.SYNC_FILE_RANGE_WRITE)
}

func (w *Writeback) wait(offset int64) {
	_ = unix.SyncFileRange(int(w.file.Fd()), offset, writebackChunk,
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
}
