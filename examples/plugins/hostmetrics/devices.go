package main

import (
	"errors"
	"fmt"

	"github.com/prometheus/procfs"
	"github.com/prometheus/procfs/blockdevice"
)

// pressure is the time that was lost waiting for a resource.
func (h *sampler) pressure(s *sample) error {
	var errs []error
	for _, resource := range [...]string{"cpu", "memory", "io"} {
		data, err := readFile(h.path("proc", "pressure", resource))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		stallOf(data).add(s, "node_pressure_"+resource)
	}
	return errors.Join(errs...)
}

func (h *sampler) disks(s *sample) error {
	all, err := h.diskstats()
	if err != nil {
		return err
	}
	for _, d := range all {
		if matches(h.SkipDevices, d.DeviceName) {
			continue
		}
		for _, field := range []struct {
			name  string
			value float64
		}{
			{"reads_completed_total", float64(d.ReadIOs)},
			{"read_bytes_total", float64(d.ReadSectors) * procfs.SectorSize},
			{"read_time_seconds_total", float64(d.ReadTicks) / 1000},
			{"writes_completed_total", float64(d.WriteIOs)},
			{"written_bytes_total", float64(d.WriteSectors) * procfs.SectorSize},
			{"write_time_seconds_total", float64(d.WriteTicks) / 1000},
			{"io_now", float64(d.IOsInProgress)},
			{"io_time_seconds_total", float64(d.IOsTotalTicks) / 1000},
			{"io_time_weighted_seconds_total", float64(d.WeightedIOTicks) / 1000},
		} {
			s.add("node_disk_"+field.name, field.value, "device", d.DeviceName)
		}
	}
	return nil
}

func (h *sampler) diskstats() ([]blockdevice.Diskstats, error) {
	// Nothing of sysfs is read, which need not be there.
	fs, err := blockdevice.NewFS(h.path("proc"), h.path("proc"))
	if err != nil {
		return nil, err
	}
	all, err := fs.ProcDiskstats()
	if err != nil {
		return nil, fmt.Errorf("proc/diskstats: %w", err)
	}
	return all, nil
}

// network is of the network namespace of h.self.
func (h *sampler) network(s *sample) error {
	var all procfs.NetDev
	var err error
	if h.self == ownProcess {
		all, err = h.proc.NetDev()
	} else if p, procErr := h.proc.Proc(1); procErr == nil {
		all, err = p.NetDev()
	} else {
		err = procErr
	}
	for name, n := range ordered(all) {
		if matches(h.SkipInterfaces, name) {
			continue
		}
		for _, field := range []struct {
			name  string
			value uint64
		}{
			{"receive_bytes_total", n.RxBytes},
			{"receive_packets_total", n.RxPackets},
			{"receive_errs_total", n.RxErrors},
			{"receive_drop_total", n.RxDropped},
			{"transmit_bytes_total", n.TxBytes},
			{"transmit_packets_total", n.TxPackets},
			{"transmit_errs_total", n.TxErrors},
			{"transmit_drop_total", n.TxDropped},
		} {
			s.add("node_network_"+field.name, float64(field.value), "device", name)
		}
	}
	if err != nil {
		return fmt.Errorf("proc/net/dev: %w", err)
	}
	return nil
}
