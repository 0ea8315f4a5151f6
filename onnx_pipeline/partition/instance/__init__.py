"""The cost graph priced for a target, as arrays, and what makes it smaller without losing an optimum."""
