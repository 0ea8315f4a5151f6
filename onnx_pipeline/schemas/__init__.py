"""JSON Schemas of the files this package writes."""
