"""Where a partition cuts a model: the tensors at the borders of stages, in every form that tools read."""
