"""The opinion of MediaPipe on each image, and how well it agrees with the truth."""
