"""What is in a store, in a browser: characters, pictures with their labels, variants to review, datasets."""
