"""Pose Factory: rigged 3D characters in, labelled human-pose training data out."""
