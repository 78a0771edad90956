"""What the doctor says: one thing each, what it means, and how to mend it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import orjson

Level = Literal["ok", "note", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "note", "warning", "error")


@dataclass(frozen=True)
class Finding:
    """``error`` means that training would fail; ``warning`` that it would be slow, unsafe or likely to fail later.

    ``means`` and ``mend`` are empty where all is well.
    """

    level: Level
    about: str
    says: str
    means: str = ""
    mend: str = ""

    def __post_init__(self) -> None:
        assert self.level in ("ok", "note") or (self.means and self.mend), self.says


def would_fail(findings: Sequence[Finding]) -> bool:
    """Whether training would fail."""
    return any(finding.level == "error" for finding in findings)


def as_json(findings: Sequence[Finding], facts: object | None) -> str:
    """One object: ``would_fail``, ``findings``, and the ``facts`` that they were drawn from (null: no cluster)."""
    answer = {
        "would_fail": would_fail(findings),
        "findings": [asdict(finding) for finding in findings],
        "facts": None if facts is None else asdict(facts),  # type: ignore[call-overload]
    }
    return orjson.dumps(answer, option=orjson.OPT_NON_STR_KEYS).decode()


def as_text(findings: Sequence[Finding]) -> str:
    """A line for each finding, what is wrong with its meaning and its mending below it; a summary at the end."""
    width = max((len(finding.about) for finding in findings), default=0)
    lines = []
    for finding in findings:
        lines.append(f"{finding.level:8} {finding.about:{width}}  {finding.says}")
        if finding.level != "ok":
            lines += [f"{'':8} {'':{width}}    {text}" for text in (finding.means, finding.mend) if text]
    counts = {level: sum(finding.level == level for finding in findings) for level in LEVELS}
    said = ", ".join(f"{n} {level}" for level, n in counts.items() if n)
    verdict = "training would fail" if would_fail(findings) else "training can start"
    return "\n".join([*lines, "", f"{said}: {verdict}"])
