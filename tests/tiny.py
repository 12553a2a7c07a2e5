"""The least that still trains every kind of phase."""

TINY = ("data.image_size=64", "data.batch_size=8", "data.workers=0", "trainer.accelerator=cpu")
