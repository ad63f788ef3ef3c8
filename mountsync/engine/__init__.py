"""Observe, reconcile, apply, settle: one road between two replicas, for mounts and for jobs."""
