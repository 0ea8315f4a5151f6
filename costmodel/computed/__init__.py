"""Costs computed from shapes and the rates of a device."""
