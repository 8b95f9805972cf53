"""What comes in: examples, files, known data sets, and the episodes drawn from them."""
