"""Costs read from files."""
