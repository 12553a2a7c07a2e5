"""Images: decoded, augmented, and kept decoded between epochs."""
