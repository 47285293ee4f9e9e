"""Code that runs in Blender's Python: standard library, numpy and bpy only."""
