"""The studies behind every figure in the documentation; each module is a command."""
