"""Committed sets, in a local folder for now, and the IO manager that carries them."""
