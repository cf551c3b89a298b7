"""Nets that this project did not write: .onnx files, .pt2 programs, one's own functions."""
