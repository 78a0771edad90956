"""Category lists that ship with the package, and the label a category's name stands for."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

MAX_CATEGORIES = 65_536  # labels are u16

# categories.txt of googlecreativelab/quickdraw-dataset.
_OFFICIAL = """
aircraft carrier; airplane; alarm clock; ambulance; angel; animal migration; ant; anvil; apple; arm;
asparagus; axe; backpack; banana; bandage; barn; baseball; baseball bat; basket; basketball; bat;
bathtub; beach; bear; beard; bed; bee; belt; bench; bicycle; binoculars; bird; birthday cake; blackberry;
blueberry; book; boomerang; bottlecap; bowtie; bracelet; brain; bread; bridge; broccoli; broom; bucket;
bulldozer; bus; bush; butterfly; cactus; cake; calculator; calendar; camel; camera; camouflage; campfire;
candle; cannon; canoe; car; carrot; castle; cat; ceiling fan; cello; cell phone; chair; chandelier;
church; circle; clarinet; clock; cloud; coffee cup; compass; computer; cookie; cooler; couch; cow; crab;
crayon; crocodile; crown; cruise ship; cup; diamond; dishwasher; diving board; dog; dolphin; donut; door;
dragon; dresser; drill; drums; duck; dumbbell; ear; elbow; elephant; envelope; eraser; eye; eyeglasses;
face; fan; feather; fence; finger; fire hydrant; fireplace; firetruck; fish; flamingo; flashlight; flip
flops; floor lamp; flower; flying saucer; foot; fork; frog; frying pan; garden; garden hose; giraffe;
goatee; golf club; grapes; grass; guitar; hamburger; hammer; hand; harp; hat; headphones; hedgehog;
helicopter; helmet; hexagon; hockey puck; hockey stick; horse; hospital; hot air balloon; hot dog; hot
tub; hourglass; house; house plant; hurricane; ice cream; jacket; jail; kangaroo; key; keyboard; knee;
knife; ladder; lantern; laptop; leaf; leg; light bulb; lighter; lighthouse; lightning; line; lion;
lipstick; lobster; lollipop; mailbox; map; marker; matches; megaphone; mermaid; microphone; microwave;
monkey; moon; mosquito; motorbike; mountain; mouse; moustache; mouth; mug; mushroom; nail; necklace;
nose; ocean; octagon; octopus; onion; oven; owl; paintbrush; paint can; palm tree; panda; pants; paper
clip; parachute; parrot; passport; peanut; pear; peas; pencil; penguin; piano; pickup truck; picture
frame; pig; pillow; pineapple; pizza; pliers; police car; pond; pool; popsicle; postcard; potato; power
outlet; purse; rabbit; raccoon; radio; rain; rainbow; rake; remote control; rhinoceros; rifle; river;
roller coaster; rollerskates; sailboat; sandwich; saw; saxophone; school bus; scissors; scorpion;
screwdriver; sea turtle; see saw; shark; sheep; shoe; shorts; shovel; sink; skateboard; skull;
skyscraper; sleeping bag; smiley face; snail; snake; snorkel; snowflake; snowman; soccer ball; sock;
speedboat; spider; spoon; spreadsheet; square; squiggle; squirrel; stairs; star; steak; stereo;
stethoscope; stitches; stop sign; stove; strawberry; streetlight; string bean; submarine; suitcase; sun;
swan; sweater; swing set; sword; syringe; table; teapot; teddy-bear; telephone; television; tennis
racquet; tent; The Eiffel Tower; The Great Wall of China; The Mona Lisa; tiger; toaster; toe; toilet;
tooth; toothbrush; toothpaste; tornado; tractor; traffic light; train; tree; triangle; trombone; truck;
trumpet; t-shirt; umbrella; underwear; van; vase; violin; washing machine; watermelon; waterslide; whale;
wheel; windmill; wine bottle; wine glass; wristwatch; yoga; zebra; zigzag
"""
OFFICIAL_345: tuple[str, ...] = tuple(
    sorted(name.strip() for name in _OFFICIAL.replace("\n", " ").split(";"))
)

NOT_IN_KAGGLE = ("aircraft carrier", "knife", "lighter", "rifle", "syringe")
KAGGLE_340: tuple[str, ...] = tuple(name for name in OFFICIAL_345 if name not in NOT_IN_KAGGLE)
"""The categories of the Kaggle competition "Quick, Draw! Doodle Recognition Challenge"."""

NAMED_LISTS = {"all": OFFICIAL_345, "kaggle-340": KAGGLE_340}


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like ``name``, None where none is like it at all."""
    lowered = {candidate.lower().replace("_", " "): candidate for candidate in names}
    wanted = name.lower().replace("_", " ")
    found = difflib.get_close_matches(wanted, lowered, n=3, cutoff=0.5)
    if not found:
        return None
    # Of names that are alike to the same degree, the one of the same length: "dgo" is "dog", not "dragon".

    def likeness(candidate: str) -> tuple[float, int]:
        ratio = difflib.SequenceMatcher(None, candidate, wanted).ratio()
        return ratio, -abs(len(candidate) - len(wanted))

    return lowered[max(found, key=likeness)]


def unknown_category(name: str, names: Sequence[str]) -> str:
    """One line about a category that is not one of ``names``, naming the nearest that is."""
    close = nearest(name, names)
    return f"unknown category '{name[:60]}'" + (f"; did you mean '{close}'?" if close else "")


def parse_categories(text: str, known: Sequence[str] | None = OFFICIAL_345) -> tuple[str, ...]:
    """The sorted categories that "all", "kaggle-340" or a comma list names.

    Raises ValueError for an empty list and for a name that is not in ``known``, with the nearest that is; None
    takes any name, for sources with names of their own.
    """
    wanted = {name.strip() for name in text.split(",")} - {""}
    if not wanted:
        raise ValueError("categories: the list is empty; give a comma list, 'kaggle-340' or 'all'")
    chosen: set[str] = set()
    for name in sorted(wanted):
        if name in NAMED_LISTS:
            chosen.update(NAMED_LISTS[name])
        elif known is None or name in known:
            chosen.add(name)
        else:
            raise ValueError(f"categories: {unknown_category(name, [*known, *NAMED_LISTS])}")
    return tuple(sorted(chosen))


@dataclass(frozen=True)
class Categories:
    """The categories of a dataset; a category's label is its place in the sorted list.

    ``others`` are names that are valid but not wanted: their drawings are skipped. A name that is in neither
    list makes a record a bad one.
    """

    names: tuple[str, ...]
    others: frozenset[str] = frozenset()
    labels: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("categories: the list is empty")
        if len(self.names) > MAX_CATEGORIES:
            raise ValueError(f"categories: {len(self.names)} of them, at most {MAX_CATEGORIES} fit a label")
        if list(self.names) != sorted(set(self.names)):
            raise ValueError("categories: the list must be sorted and without repeats")
        object.__setattr__(self, "labels", {name: label for label, name in enumerate(self.names)})

    def unknown(self, name: str) -> str:
        """Why a record of category ``name`` is a bad one."""
        return _unknown(name, self.names)


@lru_cache(maxsize=1024)  # a file of such records asks for each, and comparing with 345 names takes 3 ms
def _unknown(name: str, names: tuple[str, ...]) -> str:
    return unknown_category(name, names)
