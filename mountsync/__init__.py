"""mountsync: remote storage as an ordinary folder."""

__version__ = "0.1.0"
