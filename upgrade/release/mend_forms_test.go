package release

import (
	"os"
	"testing"
)

func TestLostManifestOfAReleaseWithSmallerFormsIsMended(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(f *forms, path string){
		"lost":    func(f *forms, path string) { f.remove(path) },
		"damaged": func(f *forms, path string) { f.write(path, []byte("{}")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForms(t)
			f.publish(1)
			if m := f.publish(2); len(m.Platforms[0].Deltas) == 0 || len(m.Platforms[0].Encodings) == 0 {
				t.Fatalf("no smaller form to mend: %+v", m)
			}
			path := f.path(manifestPath(f.entry(version(2)).Manifest))
			whole := f.read(path)
			damage(f, path)
			if _, err := f.add(2, program(1)); err == nil {
				t.Error("other content was taken for the lost release")
			}
			f.publish(2)
			if mended, err := os.ReadFile(path); err != nil || string(mended) != string(whole) {
				t.Errorf("mended manifest %s (%v), want %s", mended, err, whole)
			}
		})
	}
}
