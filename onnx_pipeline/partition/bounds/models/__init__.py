"""Bounds by solver: the three-block models of Archer et al. 2024 and the exact model."""
