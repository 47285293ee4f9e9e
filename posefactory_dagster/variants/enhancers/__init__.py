"""Enhancers: an exact render in, an image of another look out. `base` has the interface."""
