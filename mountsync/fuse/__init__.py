"""The kernel's room: the only one that knows pyfuse3."""
