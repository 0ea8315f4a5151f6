"""Files and folders that are complete or absent, and what they hold."""
