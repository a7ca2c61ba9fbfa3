"""Features of clips by pretrained encoders: the user brings the weights, nothing is ever downloaded."""
