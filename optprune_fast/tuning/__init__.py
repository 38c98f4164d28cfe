"""What follows a mask: training of the kept weights, and refitting them without training."""
