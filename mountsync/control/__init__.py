"""Talking to a running mount: a line-based protocol on a unix socket, its server and its client."""
