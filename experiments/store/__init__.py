"""The files of a run: records, tables of them, and the folder they lie in."""

from experiments.store.files import (
    CELLS,
    CHECKPOINTS,
    MANIFEST,
    REPORT,
    SESSIONS,
    ResultsError,
    open_folder,
    storing,
    write_file,
)
from experiments.store.manifest import read_manifest, write_manifest
from experiments.store.schema import (
    FILES,
    AdaptationPoint,
    CurvePoint,
    Episode,
    LearningPoint,
    Metric,
    Row,
    WorldRow,
)
from experiments.store.tables import check_name, read_table, write_sessions, write_table

__all__ = [
    "CELLS",
    "CHECKPOINTS",
    "FILES",
    "MANIFEST",
    "REPORT",
    "SESSIONS",
    "AdaptationPoint",
    "CurvePoint",
    "Episode",
    "LearningPoint",
    "Metric",
    "ResultsError",
    "Row",
    "WorldRow",
    "check_name",
    "open_folder",
    "read_manifest",
    "read_table",
    "storing",
    "write_file",
    "write_manifest",
    "write_sessions",
    "write_table",
]
