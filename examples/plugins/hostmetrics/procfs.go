package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

const (
	// clockTicks is USER_HZ, 100 on every architecture of Linux that Go
	// supports.
	clockTicks = 100
	// sectorBytes is diskstats' unit, whatever the device's own is.
	sectorBytes = 512
)

// procfs is where /proc is.
type procfs string

// lines calls f with the fields of each line of a file.
func (p procfs) lines(name string, f func(fields []string)) error {
	file, err := os.Open(filepath.Join(string(p), name))
	if errors.Is(err, fs.ErrNotExist) && runtime.GOOS != "linux" {
		return fmt.Errorf("hostmetrics reads /proc, which only Linux has: %w", errors.ErrUnsupported)
	}
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		if fields := strings.Fields(scanner.Text()); len(fields) > 0 {
			f(fields)
		}
	}
	return scanner.Err()
}

func (p procfs) cpu() (cpu, error) {
	var c cpu
	err := p.lines("stat", func(fields []string) {
		switch {
		case fields[0] == "cpu" && len(fields) >= 9:
			seconds := func(i int) float64 { return float64(number(fields[i])) / clockTicks }
			c.UserSeconds = seconds(1) + seconds(2) // user and nice; both include guests
			c.SysSeconds = seconds(3) + seconds(6) + seconds(7)
			c.IdleSeconds, c.WaitSeconds = seconds(4), seconds(5)
			c.total = c.UserSeconds + c.SysSeconds + c.IdleSeconds + c.WaitSeconds + seconds(8)
		case strings.HasPrefix(fields[0], "cpu"):
			c.Processors++
		}
	})
	if err == nil && c.total == 0 {
		err = fmt.Errorf("%s/stat: want a line \"cpu\", found none", string(p))
	}
	return c, err
}

func (p procfs) memory() (memory, error) {
	var m memory
	err := p.lines("meminfo", func(fields []string) {
		if len(fields) < 2 {
			return
		}
		bytes := number(fields[1]) * 1024
		switch fields[0] {
		case "MemTotal:":
			m.TotalBytes = bytes
		case "MemAvailable:":
			m.AvailableBytes = bytes
		case "Cached:":
			m.CachedBytes = bytes
		case "SwapTotal:":
			m.SwapTotalBytes = bytes
		case "SwapFree:":
			m.SwapFreeBytes = bytes
		}
	})
	if err == nil && m.TotalBytes == 0 {
		err = fmt.Errorf("%s/meminfo: want MemTotal, found none", string(p))
	}
	return m, err
}

func (p procfs) disks() ([]disk, error) {
	disks := []disk{}
	err := p.lines("diskstats", func(fields []string) {
		if len(fields) < 14 || strings.HasPrefix(fields[2], "loop") || strings.HasPrefix(fields[2], "ram") {
			return
		}
		disks = append(disks, disk{
			Device: fields[2],
			Reads:  number(fields[3]), ReadBytes: number(fields[5]) * sectorBytes,
			Writes: number(fields[7]), WriteBytes: number(fields[9]) * sectorBytes,
		})
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // some containers hide it
	}
	return disks, err
}

func (p procfs) network() ([]netInterface, error) {
	found := []netInterface{}
	// "self" of the reader: the network namespace of this process.
	err := p.lines("net/dev", func(fields []string) {
		name, first, ok := strings.Cut(fields[0], ":")
		if !ok {
			return // the two lines of headings
		}
		if first != "" { // "eth0:123" without a blank
			fields = append([]string{name, first}, fields[1:]...)
		}
		if len(fields) < 17 {
			return
		}
		found = append(found, netInterface{
			Name:    name,
			RxBytes: number(fields[1]), RxPackets: number(fields[2]), RxErrors: number(fields[3]),
			TxBytes: number(fields[9]), TxPackets: number(fields[10]), TxErrors: number(fields[11]),
		})
	})
	return found, err
}

// number reads a counter; the kernel writes nothing else where one is.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
