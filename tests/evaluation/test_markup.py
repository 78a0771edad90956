"""HTML that holds what it is given as text, and curves that lose nothing on the way."""

import re
from html.parser import HTMLParser

import pytest

from doodle_dist.evaluation.line_chart import Series, chart, short
from doodle_dist.evaluation.markup import breakable, el, join, page, table


class Collected(HTMLParser):
    """The text and the tags of a document."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


HOSTILE = "<script>alert('x')</script>\" onload=\"y & <b>"


def test_text_and_attributes_come_back_as_they_were_given() -> None:
    read = Collected(
        el("p", HOSTILE, [HOSTILE, el("i", HOSTILE)], None, title=HOSTILE, class_="a", hidden=None)
    )
    assert [tag for tag, _ in read.tags] == ["p", "i"]
    assert read.tags[0][1] == {"title": HOSTILE, "class": "a"}
    assert "".join(read.said) == 3 * HOSTILE
    assert "".join(Collected(join("a<", ("b", ["c&"]))).said) == "a<bc&"


def test_a_table_has_a_caption_and_says_what_its_heads_are_of() -> None:
    read = Collected(table(HOSTILE, ("name", "figure"), [("one", "1"), ("two", "2")]))
    scopes = [attributes["scope"] for tag, attributes in read.tags if tag == "th"]
    assert scopes == ["col", "col", "row", "row"]
    assert [tag for tag, _ in read.tags].count("caption") == 1
    assert next(a for t, a in read.tags if t == "div")["tabindex"] == "0", "keys scroll what is too wide"


def test_a_long_name_may_be_broken_and_says_the_same() -> None:
    for name in (
        "gan.noise.sigma_start",
        "judge/frechet_distance",
        "cat & dog",
        "5,000 – 17,500",
        "3.5",
        HOSTILE,
    ):
        read = Collected(el("p", breakable(name)))
        assert "".join(read.said) == name
        broken = [tag for tag, _ in read.tags].count("wbr")
        assert broken == sum(name.count(end) for end in "._/" if name[0].islower())
    assert breakable(el("b", "a.b")) == "<b>a.b</b>", "markup stays as it is"


def test_a_page_forbids_to_fetch_anything() -> None:
    head = Collected(page("t", el("main"), "p > a { color: red }"))
    policy = next(a["content"] for _, a in head.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "p > a { color: red }" in head.said


def heights(svg: str) -> list[list[tuple[float, float]]]:
    """Of each stretch of the first curve, its points."""
    path = re.search(r'class="curve c0"><path d="([^"]*)"', svg.split("<svg", 2)[-1])
    assert path is not None
    stretches = [part.split("L") for part in path[1].split("M") if part]
    return [[tuple(map(float, point.split())) for point in part] for part in stretches]  # type: ignore[misc]


def test_a_curve_is_drawn_to_scale_with_gaps_where_it_is_not_finite() -> None:
    nan = float("nan")
    first, second = heights(chart("t", [Series("t", [0, 10, 20, 30, 40], [0.0, 2.0, nan, 4.0, 1.0])]))
    assert len(first) == len(second) == 2
    (x0, y0), (x1, y1) = first
    (x3, y3), (x4, y4) = second
    assert (x1 - x0) == pytest.approx(x4 - x3) == pytest.approx((x3 - x1) / 2)
    assert y0 > y4 > y1 > y3, "up is more"
    assert (y0 - y1) == pytest.approx((y0 - y3) / 2)


def test_many_points_are_thinned_and_no_spike_is_lost() -> None:
    values = [1.0] * 5000
    values[1234], values[4000] = 9.0, 0.25
    (points,) = heights(chart("t", [Series("t", list(range(5000)), values)]))
    assert len(points) <= 600
    ys = sorted(y for _, y in points)
    assert ys[0] < ys[len(ys) // 2] < ys[-1], "the highest and the lowest are there"
    assert points == sorted(points), "from left to right"


def test_values_of_all_sizes_are_drawn_on_a_logarithmic_axis() -> None:
    text = chart("t", [Series("t", [1, 2, 3], [1e-3, 1.0, 1e3])])
    assert "(logarithmic)" in text
    ((_, low), (_, middle), (_, high)), *_ = heights(text)
    assert (low - middle) == pytest.approx(middle - high, abs=0.2)
    assert "(logarithmic)" not in chart("t", [Series("t", [1, 2], [-1.0, 1e6])])


@pytest.mark.parametrize(
    "values", [[0.0], [5.0, 5.0], [0.0, 0.0], [-3.0, -3.0], [1e-300, 2e-300], [-1e30, 1e30]]
)
def test_flat_and_extreme_curves_have_an_axis(values: list[float]) -> None:
    text = chart("t", [Series("t", list(range(len(values))), values)])
    numbers = [float(x) for x in re.findall(r'[cxy]{1,2}="(-?[\d.]+)"', text)]
    assert numbers
    assert all(0 <= number <= 360 for number in numbers)


def test_numbers_are_short() -> None:
    assert [short(x) for x in (0, 0.25, 40_000, 12_500_000, -3e9)] == ["0", "0.25", "40k", "12.5M", "-3G"]


def test_what_hardly_changes_has_different_ticks_and_looks_flat() -> None:
    text = chart("t", [Series("t", [10, 20], [0.9480, 0.9482])])
    ticks = re.findall(r'text-anchor="end" dominant-baseline="central">([^<]*)<', text)
    assert len(ticks) == len(set(ticks)) >= 2
    ((_, one), (_, other)), *_ = heights(text)
    assert 0 < one - other < 5
