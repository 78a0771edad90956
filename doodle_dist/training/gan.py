"""The conditional GAN task (being written)."""

class GanTask:
    pass
