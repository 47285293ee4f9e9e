"""Image models, and a rented machine that serves them. Stands alone: a pod has this folder and `blender_scripts`."""
