"""Where runs go and drawings come from: whether every node can write and read there, and how fast."""

from collections.abc import Iterator

from doodle_dist.doctor.facts import ClusterFacts
from doodle_dist.doctor.findings import Finding
from doodle_dist.doctor.sizes import MIB, as_rate

SLOW_STORAGE_BYTES_PER_S = 10 * MIB


def check_storage(facts: ClusterFacts) -> Iterator[Finding]:
    uri = facts.storage_uri
    if facts.storage_error_here:
        yield Finding(
            "error",
            "storage",
            f"here: {facts.storage_error_here}",
            "the driver could not write the run's folder",
            "name another place with --storage, or mend this one: credentials or role, endpoint, rights, space",
        )
        return
    tried = [(node, node.storage) for node in facts.nodes if node.storage is not None]
    for node, seen in tried:
        if seen.error:
            yield Finding(
                "error",
                "storage",
                f"{node.name}: {seen.error}",
                "a worker there could not save a checkpoint",
                f"make {uri} writable from every node: its credentials or role, endpoint and network",
            )
        elif not seen.sees_marker:
            yield Finding(
                "error",
                "storage",
                f"{node.name} does not see what was written to {uri} here",
                "it is a folder of each machine's own, so a run could not find its checkpoints again",
                "use s3:// or gs://, or a folder that all nodes share (NFS)",
            )
    fine = [(node, seen) for node, seen in tried if not seen.error and seen.sees_marker]
    if fine and len(fine) == len(tried):
        write = min(seen.bytes / max(seen.write_s, 1e-9) for _, seen in fine)
        read = min(seen.bytes / max(seen.read_s, 1e-9) for _, seen in fine)
        said = f"{uri}: every node writes {as_rate(write)} and reads {as_rate(read)} or more, all at once"
        if "://" in uri and min(write, read) < SLOW_STORAGE_BYTES_PER_S:
            yield Finding(
                "warning",
                "storage",
                said,
                "checkpoints take long to save, and reading from there would starve GPUs",
                "use a bucket in the cluster's region, or a gateway endpoint for it",
            )
        else:
            yield Finding("ok", "storage", said)


def check_data(facts: ClusterFacts) -> Iterator[Finding]:
    if not facts.data_uri:
        yield Finding(
            "error",
            "data",
            "no dataset was named",
            "a run would be refused before it starts",
            "--data URI or DOODLE_DATA names one, and `doodle-dist data prepare` makes one",
        )
        return
    if facts.data_error_here:
        yield Finding(
            "error",
            "data",
            f"here: {facts.data_error_here}",
            "a run would be refused before it starts",
            "name another with --data, or mend this one: `doodle-dist data verify` checks all its files",
        )
        return
    tried = [(node, node.data) for node in facts.nodes if node.data is not None]
    for node, seen in tried:
        if seen.error:
            yield Finding(
                "error",
                "data",
                f"{node.name}: {seen.error}",
                "a worker there could not read the drawings",
                f"make {facts.data_uri} readable from every node; `doodle-dist data verify` checks its files",
            )
    fine = [seen for _, seen in tried if not seen.error]
    if fine and len(fine) == len(tried):
        slowest = min(seen.bytes / max(seen.read_s, 1e-9) for seen in fine)
        yield Finding(
            "ok",
            "data",
            f"{facts.data_uri}: {fine[0].rows:,} drawings in {fine[0].shards} shards; every node reads "
            f"{as_rate(slowest)} or more, all at once",
        )
