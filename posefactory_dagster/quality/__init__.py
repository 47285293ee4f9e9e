"""Image quality: MediaPipe's detections, their accuracy against the truth, and the gate."""
