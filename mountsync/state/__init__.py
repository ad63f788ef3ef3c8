"""The local truth: one SQLite file holds names, attributes, small contents, journal and base."""
