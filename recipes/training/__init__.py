"""What a recipe's stages are made of besides data and networks."""
