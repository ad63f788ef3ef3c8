"""Backends: whatever holds objects under paths."""
