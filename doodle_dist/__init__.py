"""Train doodle generators and classifiers on Quick, Draw!, from a laptop to a Ray cluster."""

__version__ = "0.1.0"
