"""People that the factory makes: described, drawn or sampled, dressed, and written as models."""
