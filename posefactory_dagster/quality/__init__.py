"""How good an image is: what MediaPipe sees, how that compares with the truth, and whether a pose survived."""
