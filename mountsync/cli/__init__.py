"""The command line: one file per family of commands; every import of a command's parts is late."""
