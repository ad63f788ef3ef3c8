"""What a POSIX file system means, without a kernel and without a network."""
