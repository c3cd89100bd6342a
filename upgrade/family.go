package upgrade

// familyVariable is set in a successor on probation, to its pid: what it
// starts inherits the variable also where it leaves the process group. The
// incumbent's own environment is never touched, so that nothing that it
// starts meanwhile can be taken for the successor's.
const familyVariable = "PERENNIAL_SUCCESSOR"
