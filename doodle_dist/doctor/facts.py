"""What the doctor found out about a cluster, as plain frozen values: the checks need nothing else, no Ray."""

from collections.abc import Mapping
from dataclasses import dataclass, field

GPUS = tuple[str, ...]


@dataclass(frozen=True)
class Disk:
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class StorageFacts:
    """A probe file written and read by a node; ``error`` is one line where it could not."""

    error: str = ""
    write_s: float = 0.0
    read_s: float = 0.0
    bytes: int = 0
    sees_marker: bool = True


@dataclass(frozen=True)
class DataFacts:
    """A dataset's manifest and the beginning of a shard, read by a node. ``pixels`` are a picture's, of all channels.

    Where nothing was read it is taken for what Quick, Draw! comes to.
    """

    error: str = ""
    read_s: float = 0.0
    bytes: int = 0
    rows: int = 0
    shards: int = 0
    is_strokes: bool = True
    pixels: int = 28 * 28


@dataclass(frozen=True)
class NodeFacts:
    """A node as Ray and as it itself sees it. Sizes in bytes, ``clock_offset_s`` against the driver's clock."""

    address: str
    hostname: str
    is_head: bool
    python: str
    versions: Mapping[str, str]
    ray_cpus: float
    ray_gpus: float
    object_store_bytes: int
    torch_error: str
    torch_cuda: str
    torch_gpus: GPUS
    interfaces: Mapping[str, str]
    hostname_address: str
    gloo_ifname: str
    nccl_ifname: str
    memory_bytes: int
    shm_bytes: int
    disks: Mapping[str, Disk]
    clock_offset_s: float
    clock_error_s: float
    storage: StorageFacts | None = None
    data: DataFacts | None = None

    @property
    def name(self) -> str:
        return f"{self.hostname} ({self.address})" if self.hostname != self.address else self.address


@dataclass(frozen=True)
class LinkFacts:
    """A TCP connection from one node to another, by name."""

    source: str
    target: str
    error: str = ""
    connect_s: float = 0.0
    bytes_per_s: float = 0.0


@dataclass(frozen=True)
class DashboardFacts:
    """The dashboard as a client meets it: HTTP status with the client's token and with none; 0: no answer."""

    url: str = ""
    status: int = 0
    status_without_token: int = 0
    error: str = ""


@dataclass(frozen=True)
class ClusterFacts:
    """Everything that the checks look at. ``silent_nodes`` are those that Ray counts and that gave no answer, with
    the reason; ``shortage`` is what the run asks for and the cluster lacks."""

    address: str
    is_own: bool
    python: str
    versions: Mapping[str, str]
    auth_mode: str
    has_token: bool
    dashboard: DashboardFacts
    nodes: tuple[NodeFacts, ...]
    links: tuple[LinkFacts, ...] = ()
    silent_nodes: Mapping[str, str] = field(default_factory=dict)
    shortage: str = ""
    storage_error_here: str = ""
    data_error_here: str = ""
    storage_uri: str = ""
    data_uri: str = ""
