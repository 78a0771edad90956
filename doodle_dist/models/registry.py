"""The networks by name; each is built by ``(config, *, num_categories, side=28, channels=1)``."""

from doodle_dist.models.classifiers import CnnSmall, DoodleCnn, DoodleResnet
from doodle_dist.models.critics import CdcganCritic, DoodleSmallCritic
from doodle_dist.models.generators import CdcganGenerator, DoodleSmallGenerator

GENERATORS: dict[str, type[DoodleSmallGenerator | CdcganGenerator]] = {
    "doodle-small": DoodleSmallGenerator,
    "cdcgan": CdcganGenerator,
}

CRITICS: dict[str, type[DoodleSmallCritic | CdcganCritic]] = {
    "doodle-small": DoodleSmallCritic,
    "cdcgan": CdcganCritic,
}

CLASSIFIERS: dict[str, type[CnnSmall | DoodleCnn | DoodleResnet]] = {
    "cnn-small": CnnSmall,
    "doodle-cnn": DoodleCnn,
    "resnet": DoodleResnet,
}
