"""What touches pixels and weights: training, inference, quantization."""
