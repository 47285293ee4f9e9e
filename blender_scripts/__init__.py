"""What runs inside Blender's Python: standard library, numpy and bpy only."""
