package main

import (
	"debug/buildinfo"
	"debug/elf"
	"debug/macho"
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/perennial-go/perennial/upgrade/release"
)

// inspectBinary reads the platform where none is given, and refuses an
// executable that tells another one, or that will call itself by another
// version than the release that it is in.
func inspectBinary(b *release.Binary, version string) error {
	info, err := buildinfo.ReadFile(b.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist: give the path of an executable: %w", b.Path, err)
	}
	if err != nil && b.OS != "" {
		return matchHeader(b)
	}
	if err != nil {
		return fmt.Errorf("the platform of %s is wanted and cannot be read from it; if it is an executable that is not written in Go, give --platform: %w", b.Path, err)
	}
	var found release.Binary
	for _, s := range info.Settings {
		switch s.Key {
		case "GOOS":
			found.OS = s.Value
		case "GOARCH":
			found.Arch = s.Value
		case "-ldflags":
			stamped, ok := stampedVersion(s.Value)
			if ok && stamped != version {
				return fmt.Errorf("%s was built with version %s, the release is to be %s: build it again with -ldflags \"-X main.version=%s\"", b.Path, stamped, version, version)
			}
		}
	}
	if b.OS == "" {
		b.OS, b.Arch = found.OS, found.Arch
		return nil
	}
	if found.OS == "" || found.Arch == "" {
		return matchHeader(b)
	}
	if b.OS != found.OS || b.Arch != found.Arch {
		return otherPlatform(b, found.OS+"/"+found.Arch)
	}
	return nil
}

func otherPlatform(b *release.Binary, found string) error {
	return fmt.Errorf("--platform: want an executable for %s/%s, found that %s is for %s: give that platform, or the executable that was built for %s/%s", b.OS, b.Arch, b.Path, found, b.OS, b.Arch)
}

// matchHeader refuses an executable whose header excludes its platform. What
// has no such header, a script perhaps, may run anywhere.
func matchHeader(b *release.Binary) (err error) {
	f, err := os.Open(b.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := readHeader(f)
	if h == nil || h.runs(b.OS, b.Arch) {
		return nil
	}
	return otherPlatform(b, h.String())
}

// header is what the header of an executable tells. Either half is empty if it
// tells nothing of it.
type header struct {
	format       string
	oses, arches []string
}

func (h *header) runs(goos, goarch string) bool {
	return (len(h.oses) == 0 || slices.Contains(h.oses, goos)) && (len(h.arches) == 0 || slices.Contains(h.arches, goarch))
}

func (h *header) String() string {
	text := h.format
	if len(h.arches) > 0 {
		text = strings.Join(h.arches, ", ") + ", in the format " + text
	}
	return text + " of " + strings.Join(h.oses, ", ")
}

// readHeader returns nil for what is of none of the formats.
func readHeader(r io.ReaderAt) *header {
	if f, err := elf.NewFile(r); err == nil {
		return elfHeader(f)
	}
	if f, err := pe.NewFile(r); err == nil {
		return &header{"PE", []string{"windows"}, archOf(map[uint16]string{
			pe.IMAGE_FILE_MACHINE_AMD64: "amd64", pe.IMAGE_FILE_MACHINE_I386: "386",
			pe.IMAGE_FILE_MACHINE_ARM64: "arm64", pe.IMAGE_FILE_MACHINE_ARMNT: "arm",
		}[f.Machine])}
	}
	cpus := map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64", macho.Cpu386: "386", macho.CpuArm: "arm"}
	apple := &header{format: "Mach-O", oses: []string{"darwin", "ios"}}
	if f, err := macho.NewFile(r); err == nil {
		apple.arches = archOf(cpus[f.Cpu])
		return apple
	}
	if f, err := macho.NewFatFile(r); err == nil {
		for _, a := range f.Arches {
			apple.arches = append(apple.arches, archOf(cpus[a.Cpu])...)
		}
		return apple
	}
	return nil
}

func archOf(arch string) []string {
	if arch == "" {
		return nil
	}
	return []string{arch}
}

// elfHeader is careful with the system, which most ELF files do not tell.
func elfHeader(f *elf.File) *header {
	h := &header{format: "ELF"}
	switch f.OSABI {
	case elf.ELFOSABI_FREEBSD:
		h.oses = []string{"freebsd"}
	case elf.ELFOSABI_LINUX:
		h.oses = []string{"linux", "android"}
	default:
		h.oses = []string{"linux", "android", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris", "illumos"}
	}
	wide, little := f.Class == elf.ELFCLASS64, f.Data == elf.ELFDATA2LSB
	ending := map[bool]string{true: "le"}[little]
	switch f.Machine {
	case elf.EM_X86_64:
		h.arches = archOf("amd64")
	case elf.EM_386:
		h.arches = archOf("386")
	case elf.EM_AARCH64:
		h.arches = archOf("arm64")
	case elf.EM_ARM:
		h.arches = archOf("arm")
	case elf.EM_LOONGARCH:
		h.arches = archOf("loong64")
	case elf.EM_S390:
		h.arches = archOf("s390x")
	case elf.EM_RISCV:
		h.arches = archOf(map[bool]string{true: "riscv64", false: "riscv"}[wide])
	case elf.EM_PPC64:
		h.arches = archOf("ppc64" + ending)
	case elf.EM_MIPS:
		h.arches = archOf(map[bool]string{true: "mips64", false: "mips"}[wide] + ending)
	default: // one that Go does not run on, or that is new
	}
	return h
}

// stampedVersion reads main.version out of a build's linker flags.
func stampedVersion(ldflags string) (string, bool) {
	_, after, ok := strings.Cut(ldflags, "main.version=")
	if !ok {
		return "", false
	}
	fields := strings.FieldsFunc(after, func(r rune) bool { return r == ' ' || r == '"' || r == '\'' })
	if len(fields) == 0 {
		return "", false
	}
	return fields[0], true
}
