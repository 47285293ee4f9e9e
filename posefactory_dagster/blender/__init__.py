"""Where Blender runs."""
