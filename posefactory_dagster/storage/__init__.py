"""Committed sets in a local folder or a bucket, and the IO manager that carries them."""
