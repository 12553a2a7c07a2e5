"""What the frozen prefix makes of images: computed once for each view of an image, kept, and read back in batches."""
