package main

import "time"

// sample is one record.
type sample struct {
	Time        time.Time      `json:"time"`
	Source      string         `json:"source"`
	Host        string         `json:"host"`
	CPU         cpu            `json:"cpu"`
	Memory      memory         `json:"memory"`
	Disks       []disk         `json:"disks"`
	Filesystems []filesystem   `json:"filesystems"`
	Network     []netInterface `json:"network"`
}

// cpu counts seconds since boot, over all processors.
type cpu struct {
	Processors  int     `json:"processors"`
	UserSeconds float64 `json:"user_seconds"`
	SysSeconds  float64 `json:"system_seconds"`
	IdleSeconds float64 `json:"idle_seconds"`
	WaitSeconds float64 `json:"iowait_seconds"`
	// Busy is the share of time not idle since the sample before, 0 to 1; it
	// is absent from a task's first sample.
	Busy *float64 `json:"busy,omitempty"`

	total float64
}

type memory struct {
	TotalBytes     int64 `json:"total_bytes"`
	AvailableBytes int64 `json:"available_bytes"`
	CachedBytes    int64 `json:"cached_bytes"`
	SwapTotalBytes int64 `json:"swap_total_bytes"`
	SwapFreeBytes  int64 `json:"swap_free_bytes"`
}

// disk counts since boot.
type disk struct {
	Device     string `json:"device"`
	Reads      int64  `json:"reads"`
	ReadBytes  int64  `json:"read_bytes"`
	Writes     int64  `json:"writes"`
	WriteBytes int64  `json:"write_bytes"`
}

type filesystem struct {
	Mount      string `json:"mount"`
	TotalBytes uint64 `json:"total_bytes"`
	FreeBytes  uint64 `json:"free_bytes"` // for unprivileged users
}

// netInterface counts since the interface came up.
type netInterface struct {
	Name      string `json:"name"`
	RxBytes   int64  `json:"rx_bytes"`
	RxPackets int64  `json:"rx_packets"`
	RxErrors  int64  `json:"rx_errors"`
	TxBytes   int64  `json:"tx_bytes"`
	TxPackets int64  `json:"tx_packets"`
	TxErrors  int64  `json:"tx_errors"`
}

// sample reads everything once.
func (h *sampler) sample(before *sample) (*sample, error) {
	s := &sample{Time: time.Now().UTC(), Source: "hostmetrics", Host: h.host}
	var err error
	if s.CPU, err = h.proc.cpu(); err != nil {
		return nil, err
	}
	if before != nil {
		if total := s.CPU.total - before.CPU.total; total > 0 {
			idle := s.CPU.IdleSeconds + s.CPU.WaitSeconds - before.CPU.IdleSeconds - before.CPU.WaitSeconds
			busy := min(max(1-idle/total, 0), 1)
			s.CPU.Busy = &busy
		}
	}
	if s.Memory, err = h.proc.memory(); err != nil {
		return nil, err
	}
	if s.Disks, err = h.proc.disks(); err != nil {
		return nil, err
	}
	if s.Network, err = h.proc.network(); err != nil {
		return nil, err
	}
	for _, m := range h.mounts {
		fs, err := statfs(m)
		if err != nil {
			return nil, err
		}
		s.Filesystems = append(s.Filesystems, fs)
	}
	return s, nil
}
