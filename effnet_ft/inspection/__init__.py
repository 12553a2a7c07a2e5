"""A look at the images before training: files that cannot be read, copies, odd files, labels that look wrong."""
