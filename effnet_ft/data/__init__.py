"""Images: sources, splits, decoding, augmentation and batches."""
