"""Views x frames of a character, with the exact truth of each image."""
