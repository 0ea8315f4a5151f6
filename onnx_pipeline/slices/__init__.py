"""Slices of heavy nodes: one node whose work is divided by output columns or channels."""
