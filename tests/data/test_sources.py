"""Finding sources: what each file is, which categories there are, and requests that are wrong."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from doodle_dist.data import locations, records, shards, sources, storage
from doodle_dist.data.blocks import plan_line_chunks
from doodle_dist.data.categories import (
    KAGGLE_340,
    OFFICIAL_345,
    Categories,
    nearest,
    parse_categories,
)
from doodle_dist.data.records import HEAD_BYTES, Chunk, Source, category_of
from doodle_dist.data.storage_errors import StorageError
from tests.image_sets import write_idx


def ndjson(word: str, raw: bool = False) -> bytes:
    drawing = [[[0.5, 9.0], [0.0, 7.5], [0, 9]]] if raw else [[[0, 255], [0, 9]]]
    record = {"word": word, "countrycode": "US", "recognized": True, "key_id": "5", "drawing": drawing}
    return json.dumps(record).encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_kinds_and_categories(folder: Path) -> None:
    (folder / "cat.ndjson").write_bytes(ndjson("cat"))
    (folder / "dog.ndjson.gz").write_bytes(gzip.compress(ndjson("dog", raw=True)))
    (folder / "full_binary_owl.bin").write_bytes(b"")
    (folder / "train.csv").write_text(
        'countrycode,drawing,key_id,recognized,timestamp,word\nUS,"[[[0],[0]]]",1,True,,ant\nUS,'
    )
    (folder / "README.md").write_text("notes")
    (folder / ".cat.ndjson.part").write_text("")
    found = sources.find_sources([str(folder)])
    assert [(locations.basename(s.uri), s.kind, s.categories[0]) for s in found] == [
        ("cat.ndjson", "ndjson", "cat"),
        ("dog.ndjson.gz", "raw", "dog"),
        ("full_binary_owl.bin", "binary", "owl"),
        ("train.csv", "kaggle", "ant"),
    ]
    assert found[0].size == len(ndjson("cat"))
    assert sources.categories_of(found).names == ("ant", "cat", "dog", "owl")
    rows = 0
    for source in found:
        for chunk in sources.plan_chunks(source, 1000):
            rows += sum(map(len, sources.read_chunk(chunk, sources.categories_of(found))))
    assert rows == 3


def test_files_of_other_categories_are_left_out(folder: Path) -> None:
    for word in ("cat", "dog", "owl"):
        (folder / f"full_simplified_{word}.ndjson").write_bytes(ndjson(word))
    found = sources.find_sources([str(folder)], ["cat", "owl"])
    assert [s.categories[0] for s in found] == ["cat", "owl"]
    categories = sources.categories_of(found, ["cat", "owl"])
    assert categories.names == ("cat", "owl")
    assert "dog" in categories.others
    assert "cat" not in categories.others


def test_globs_and_lists_give_each_file_once(folder: Path) -> None:
    for word in ("cat", "dog"):
        (folder / f"{word}.ndjson").write_bytes(ndjson(word))
    found = sources.find_sources([f"{folder}/*.ndjson", f"{folder}/cat.ndjson", str(folder)])
    assert [s.categories[0] for s in found] == ["cat", "dog"]


def test_wrong_requests(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^source: .*in holds no files$"):
        sources.find_sources([str(folder)])
    with pytest.raises(StorageError, match="nowhere not found"):
        sources.find_sources([str(folder / "nowhere")])
    with pytest.raises(ValueError, match="source: none given"):
        sources.find_sources([])
    (folder / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"notes\.txt has an unknown extension; expected one of \.ndjson"):
        sources.find_sources([str(folder)])
    (folder / "cat.ndjson").write_bytes(ndjson("cat"))
    with pytest.raises(ValueError, match=r"no file in .* holds any of the wanted categories"):
        sources.find_sources([str(folder)], ["dog"])
    found = sources.find_sources([str(folder)], ["cat", "dog", "owl"])
    with pytest.raises(ValueError, match=r"categories: no source holds 'dog' \(and 1 more\)"):
        sources.categories_of(found, ["cat", "dog", "owl"])
    np.save(folder / "dog.npy", np.zeros((1, 784), np.uint8))
    with pytest.raises(ValueError, match=r"dog\.npy holds pictures and .*cat\.ndjson drawings"):
        sources.find_sources([str(folder)])
    (folder / "dog.npy").unlink()
    (folder / "cat.ndjson.gz").write_bytes(gzip.compress(ndjson("cat")))
    with pytest.raises(ValueError, match=r"cat\.ndjson is there twice, plain and as \.gz"):
        sources.find_sources([str(folder)])
    (folder / "cat.ndjson.gz").write_bytes(ndjson("cat"))
    with pytest.raises(ValueError, match=r"cat\.ndjson\.gz is not a gzip file"):
        sources.find_sources([str(folder)])


def test_what_is_left_out_of_a_folder_is_named(folder: Path) -> None:
    """A file whose name is a little off is no drawing less that nobody misses."""
    said: list[str] = []
    (folder / "cat.ndjson").write_bytes(ndjson("cat"))
    assert len(sources.find_sources([str(folder)], warn=said.append)) == 1
    assert said == []
    for name in ("dog.ndjson.bz2", "owl.json", "pig.NDJSON"):
        (folder / name).write_bytes(ndjson("x"))
    assert len(sources.find_sources([str(folder)], warn=said.append)) == 1
    assert said == [f"left out of {folder}: dog.ndjson.bz2, owl.json, pig.NDJSON, of no known kind"]


def test_labels_and_names_beside_pictures_are_not_left_out(folder: Path) -> None:
    said: list[str] = []
    write_idx(folder, "train", np.zeros((2, 8, 8), np.uint8), np.zeros(2, np.uint8), ".gz")
    (folder / "classes.txt").write_text("cat\n")
    assert len(sources.find_sources([str(folder)], warn=said.append)) == 1
    assert said == []


def test_damaged_first_lines_do_not_hide_the_kind(folder: Path) -> None:
    (folder / "cat.ndjson").write_bytes(b"{broken\n" + ndjson("cat", raw=True))
    (folder / "dog.ndjson").write_bytes(b"")
    empty = ndjson("eel").replace(b"[[[0, 255], [0, 9]]]", b"[]")
    (folder / "eel.ndjson").write_bytes(empty + ndjson("eel", raw=True))
    (folder / "one.ndjson").write_bytes(b"\xef\xbb\xbf" + ndjson("fox", raw=True))
    found = sources.find_sources([str(folder)])
    assert [(s.kind, s.categories[0]) for s in found] == [
        ("raw", "cat"), ("ndjson", "dog"), ("raw", "eel"), ("raw", "fox"),
    ]  # fmt: skip


def test_a_file_may_mix_categories_of_ones_own(folder: Path) -> None:
    """Its first drawing names one of them; the official ones are known without that."""
    (folder / "mixed.ndjson").write_bytes(ndjson("robot") + ndjson("alien"))
    found = sources.find_sources([str(folder)])
    assert sources.categories_of(found, ("alien", "robot")).names == ("alien", "robot")
    (folder / "mixed.ndjson").write_bytes(ndjson("cat") + ndjson("dog"))
    with pytest.raises(ValueError, match="unknown category 'catt'; did you mean 'cat'"):
        sources.categories_of(sources.find_sources([str(folder)]), ("catt",))


def test_on_s3(s3_bucket: str) -> None:
    storage.write_atomic(f"{s3_bucket}/full/raw/cat.ndjson", ndjson("cat", raw=True))
    storage.write_atomic(f"{s3_bucket}/full/raw/dog.ndjson", ndjson("dog", raw=True))
    found = sources.find_sources([f"{s3_bucket}/full/raw"])
    assert [(s.kind, s.categories[0]) for s in found] == [("raw", "cat"), ("raw", "dog")]


def test_real_folders(shared_data: Path) -> None:
    for name, kind, count in (
        ("simplified", "ndjson", 345),
        ("raw", "raw", 87),
        ("google_bitmaps", "bitmap", 12),
    ):
        found = sources.find_sources([str(shared_data / name)])
        assert {s.kind for s in found} == {kind}
        assert len(sources.categories_of(found).names) == count


# --- categories ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "category"),
    [
        ("s3://b/full/simplified/ice cream.ndjson", "ice cream"),
        ("https://h/full/simplified/ice%20cream.ndjson?x=1", "ice cream"),
        ("/a/full_simplified_cat.ndjson.gz", "cat"),
        ("full_raw_cat.ndjson", "cat"),
        ("full_binary_cat.bin", "cat"),
        ("x/full_numpy_bitmap_t-shirt.npy", "t-shirt"),
        ("cat.csv", "cat"),
    ],
)
def test_category_of(uri: str, category: str) -> None:
    assert category_of(uri) == category


def test_official_lists(shared_data: Path) -> None:
    for names, file in ((OFFICIAL_345, "categories_345.txt"), (KAGGLE_340, "categories_kaggle_340.txt")):
        assert sorted(names) == sorted((shared_data / file).read_text().strip().split("\n"))
    assert list(OFFICIAL_345) == sorted(OFFICIAL_345)


def test_parse_categories() -> None:
    assert parse_categories("dog, cat,cat") == ("cat", "dog")
    assert parse_categories("all") == OFFICIAL_345
    assert parse_categories("kaggle-340,knife") == tuple(sorted({*KAGGLE_340, "knife"}))
    with pytest.raises(ValueError, match="unknown category 'aeroplane'; did you mean 'airplane'"):
        parse_categories("cat,aeroplane")
    with pytest.raises(ValueError, match="the list is empty"):
        parse_categories(" , ")
    assert nearest("Teddy_Bear", OFFICIAL_345) == "teddy-bear"
    assert nearest("qqqqqqqq", OFFICIAL_345) is None


def test_categories_are_sorted_and_not_repeated() -> None:
    assert Categories(("a", "b")).labels == {"a": 0, "b": 1}
    for names in (("b", "a"), ("a", "a"), ()):
        with pytest.raises(ValueError, match="categories"):
            Categories(names)


def test_a_signed_urls_signature_is_kept_out_of_manifest_and_rejects() -> None:
    uri = "https://host/cat.ndjson?X-Amz-Signature=abc"
    assert Chunk(uri, 0, None, "ndjson").place(1, 2) == ("https://host/cat.ndjson", 3)
    request = shards.PrepareRequest(
        (Source(uri, 10, "ndjson", ("cat",)),), Categories(("cat",)), "/nowhere", max_rejects=0
    )
    note = {"rows": 0, "skipped": 0, "lines": 1, "rejects": [(0, "not JSON")], "is_cut_off": False}
    with pytest.raises(shards.TooManyRejectsError) as failed:
        shards._refuse_too_many(request, [Chunk(uri, 0, None, "ndjson")], [note], [])
    assert "abc" not in str(failed.value)


def test_a_signed_url_of_a_gzip_file_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = "https://host/cat.ndjson.gz?sign=a"
    monkeypatch.setattr(storage, "read_bytes", lambda *_: gzip.compress(b'{"word":"cat"}'))
    assert records.head(uri) == b'{"word":"cat"}'
    assert len(plan_line_chunks(records.Source(uri, 100, "ndjson"), 10, "ndjson")) == 1


def test_an_option_that_a_signed_url_has_no_use_for_is_refused_without_its_signature() -> None:
    found = [Source("https://host/cat.ndjson?X-Amz-Signature=abc", 10, "ndjson", ("cat",))]
    with pytest.raises(ValueError, match=r"^--side 32: only folders of .*, not https://host/cat\.ndjson$"):
        sources._refuse_unused(records.PictureOptions(side=32), found)


@pytest.mark.parametrize("before", ["", "no json\n"])
@pytest.mark.parametrize("suffix", [".ndjson", ".ndjson.gz"])
def test_a_first_drawing_longer_than_the_head_says_what_it_is(folder: Path, before: str, suffix: str) -> None:
    stroke = [[k % 300 for k in range(300_000)], [k % 200 for k in range(300_000)], list(range(300_000))]
    for kind, drawing in (("raw", [stroke]), ("ndjson", [stroke[:2]])):
        line = json.dumps(
            {"word": "owl", "countrycode": "DE", "recognized": True, "key_id": "1", "drawing": drawing}
        )
        assert len(line) > 16 * HEAD_BYTES  # so much of a .gz is unpacked at once
        text = f"{before}{line}\n".encode()
        (folder / f"cat{suffix}").write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
        (source,) = sources.find_sources([str(folder)])
        assert (source.kind, source.categories) == (kind, ("owl",))
