package config
import ("testing";"time";"fmt")
func FuzzSlow(f *testing.F) {
	for _, s := range []string{"{}", "a: &x {b: 1}\nc: {<<: *x}", "a: &a [*a]", "<<: [{a: 1}, {b: 2}]", "a: [[[[[", "? ? ? a", "a: |\n  x\n"} { f.Add([]byte(s)) }
	f.Fuzz(func(t *testing.T, d []byte) {
		w := time.AfterFunc(3*time.Second, func() { panic(fmt.Sprintf("slow %q", d)) })
		_, _ = parse(d, 4096)
		w.Stop()
	})
}
