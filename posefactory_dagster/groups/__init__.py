"""Groups: several characters in one image."""
