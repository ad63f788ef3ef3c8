"""Two storages kept in sync, once or for as long as a job runs, with a base of their own."""
