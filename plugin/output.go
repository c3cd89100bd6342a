package plugin

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Bounds on what a plugin's output may cost its host. What exceeds them waits
// in the FIFO, and so in the end does the plugin.
const (
	// paceBytes is how much is taken in a second, paceBurst how much at once
	// after a quiet time.
	paceBytes = 512 << 10
	paceBurst = 1 << 20
	// paceLine is added for every line: a record in the host's log costs more
	// than its bytes.
	paceLine = 256
	// readBytes is taken at once.
	readBytes = 16 << 10
	// strayGrace is how long the output of a dead plugin may stay open: a
	// descendant that could not be found may hold it.
	strayGrace = time.Second
)

// streamNames are the two streams, and the names of their FIFOs in the room.
var streamNames = [...]string{"stdout", "stderr"} //nolint:gochecknoglobals // a constant list

// output carries what a plugin's process writes into the plugin's log files
// and the host's log. On Linux it goes through FIFOs that the plugin holds open
// for reading too: it outlives every host, and the next one goes on reading.
type output struct {
	dir  string
	file *logFile // nil keeps no files
	said *logWriter
	pace *pace

	// child are the ends for the process, until it has been started.
	child [len(streamNames)]*os.File
	// greeting is the first line of standard output; nil on re-attachment.
	greeting *greeting

	streams [len(streamNames)]*stream
	done    chan struct{} // closed once nothing is read any more
	mu      sync.Mutex
	failing bool // the last line could not be kept
}

// stream is one of them.
type stream struct {
	name string
	r    *os.File
	line []byte // without its newline so far
}

// createOutput makes the streams of a process that is yet to be started in
// room. file may be nil. The output is the caller's to end, by finish or
// release.
func createOutput(room string, file *logFile, log *slog.Logger) (*output, error) {
	o := newOutput(room, file, log)
	o.greeting = &greeting{done: make(chan struct{})}
	for i, name := range streamNames {
		r, w, err := makeStream(filepath.Join(room, name))
		if err != nil {
			o.closeFiles()
			return nil, err
		}
		o.streams[i], o.child[i] = &stream{name: name, r: r}, w
	}
	o.begin()
	return o, nil
}

// openOutput goes on with the streams of a process that another host has
// started in room.
func openOutput(room string, file *logFile, log *slog.Logger) (*output, error) {
	o := newOutput(room, file, log)
	for i, name := range streamNames {
		r, err := openStream(filepath.Join(room, name))
		if err != nil {
			o.closeFiles()
			return nil, err
		}
		o.streams[i] = &stream{name: name, r: r}
		rest, err := takeRest(room, name)
		if err != nil {
			log.Warn("the beginning of a line of a plugin's output is lost", "error", err)
		}
		o.streams[i].line = rest
	}
	o.begin()
	return o, nil
}

func newOutput(room string, file *logFile, log *slog.Logger) *output {
	return &output{
		dir: room, file: file, said: &logWriter{log: log}, pace: newPace(), done: make(chan struct{}),
	}
}

func (o *output) begin() {
	var readers sync.WaitGroup
	for _, s := range o.streams {
		readers.Go(func() { o.read(s) })
	}
	go func() {
		readers.Wait()
		if o.greeting != nil {
			o.greeting.end()
		}
		for _, s := range o.streams {
			_ = s.r.Close()
		}
		if o.file != nil {
			o.file.close()
		}
		close(o.done)
	}()
}

// read takes one stream until nobody can write to it any more, or it is
// released.
func (o *output) read(s *stream) {
	buf := make([]byte, readBytes)
	for {
		n, err := s.r.Read(buf)
		lines := o.take(s, buf[:n])
		if err != nil {
			// At the end of the stream; whoever released it keeps the rest.
			if len(s.line) > 0 && !errors.Is(err, os.ErrDeadlineExceeded) {
				o.flush(s)
			}
			return
		}
		o.pace.spend(n + lines*paceLine)
	}
}

// take splits p into lines and returns how many there were.
func (o *output) take(s *stream, p []byte) int {
	lines := 0
	for len(p) > 0 {
		part, rest, whole := bytes.Cut(p, []byte{'\n'})
		if room := maxLineBytes - len(s.line); len(part) > room {
			part, rest, whole = p[:room], p[room:], true
		}
		s.line = append(s.line, part...)
		p = rest
		if whole {
			o.flush(s)
			lines++
		} else if s == o.streams[0] && o.greeting.wants(len(s.line)) {
			o.flush(s)
		}
	}
	return lines
}

// flush passes the stream's line on.
func (o *output) flush(s *stream) {
	line := s.line
	s.line = line[:0]
	if s == o.streams[0] && o.greeting.take(line) {
		return
	}
	if len(line) == 0 {
		return
	}
	o.keep(line)
	o.said.emit(string(line))
}

// keep appends the line to the plugin's log file. The file before the host's
// log: only the file is promised to survive.
func (o *output) keep(line []byte) {
	if o.file == nil {
		return
	}
	err := o.file.write(append(line, '\n'))
	o.mu.Lock()
	first := err != nil && !o.failing
	o.failing = err != nil
	o.mu.Unlock()
	if first {
		o.said.log.Warn("plugin output cannot be kept in its log file", "error", err)
	}
}

// closeChild closes the process's ends in the host.
func (o *output) closeChild() {
	for i, f := range o.child {
		if f != nil {
			_ = f.Close()
			o.child[i] = nil
		}
	}
}

// finish reads what a dead process has left, and returns at once: done is
// closed within strayGrace.
func (o *output) finish() {
	o.closeChild()
	o.pace.lift()
	late := time.AfterFunc(strayGrace, o.interrupt)
	go func() {
		<-o.done
		late.Stop()
	}()
}

// release ends reading and changes nothing for the process, so that the next
// host can go on. The beginning of a line goes to it through a file.
func (o *output) release() {
	o.interrupt()
	<-o.done
	for _, s := range o.streams {
		if err := leaveRest(o.dir, s.name, s.line); err != nil {
			o.said.log.Warn("the beginning of a line of a plugin's output is lost", "error", err)
		}
	}
}

// interrupt ends the readers.
func (o *output) interrupt() {
	o.pace.lift()
	for _, s := range o.streams {
		interruptStream(s.r)
	}
}

func (o *output) closeFiles() {
	o.closeChild()
	for _, s := range o.streams {
		if s != nil {
			_ = s.r.Close()
		}
	}
	if o.file != nil {
		o.file.close()
	}
}

// lastWords is "" if the plugin said nothing. Ask when the process has exited:
// it waits until all was read.
func (o *output) lastWords() string {
	if o == nil {
		return ""
	}
	<-o.done
	return o.said.lastWords()
}

// restSuffix ends the name of the file that holds the beginning of a line.
const restSuffix = ".rest"

func leaveRest(room, name string, rest []byte) error {
	if len(rest) == 0 {
		return nil
	}
	return os.WriteFile(filepath.Join(room, name+restSuffix), rest, 0o600)
}

func takeRest(room, name string) ([]byte, error) {
	path := filepath.Join(room, name+restSuffix)
	rest, err := readBounded(path, maxLineBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return rest, errors.Join(err, os.Remove(path))
}
