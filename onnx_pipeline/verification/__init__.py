"""Whether an output directory is what its manifest says, checked by code that did not write it."""
