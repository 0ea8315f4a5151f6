"""Exact search over ideals (downsets): the proof that nothing below a limit exists."""
