"""Studies behind every figure the documentation states; each module is a command of its own."""
