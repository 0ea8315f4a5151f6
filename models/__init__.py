"""Seeded builders of the models that tests, benchmarks and the demo use; not part of the package."""
