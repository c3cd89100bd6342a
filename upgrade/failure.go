package upgrade

// failure is why a successor is not wanted.
type failure struct {
	class  Class
	reason string
	// ours is true where the release was never given its chance, so that it is
	// not quarantined whatever the class.
	ours bool
	// deaf is true of a successor that would not hear an abort.
	deaf bool
	// dead is true of a successor that ended by itself.
	dead bool
	// recall is the id of the request that asked for this; the release is not to
	// blame.
	recall string
	// label is true where the manifest is wrong about the executable, which
	// may be a good one under another.
	label bool
}

// blamed is what of ref is quarantined for the failure.
func (f *failure) blamed(ref Ref) Ref {
	if f.label && ref.Manifest != "" {
		ref.Binary = ""
	}
	return ref
}
