"""Upper bounds: topological orders, slicing, and what improves them."""
