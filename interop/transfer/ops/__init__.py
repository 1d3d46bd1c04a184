"""What nodes that compute leave in the skeleton; one file a family of operators."""
