"""Verbs on a Blender scene: load, read the rig, cast a motion, place camera and light, tell the truth."""
