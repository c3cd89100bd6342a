package agent

// openNonblock is nothing: a directory has no pipes there.
const openNonblock = 0
