"""Stages in processes of their own, tensors in shared memory without a name."""
