"""Blender on machines rented from RunPod: REST v2, pods, and what they cost."""
