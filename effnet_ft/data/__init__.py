"""The images: where they lie, how they are split, read, augmented and batched."""
