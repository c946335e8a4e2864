"""Export: from a trained network to one file that describes itself and runs without PyTorch."""
