"""What a model costs: operations counted, per clip."""
