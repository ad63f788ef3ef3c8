"""Bytes on the local disk: content files named by content id, and which of their ranges are here."""
