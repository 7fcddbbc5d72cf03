"""The files of a run: records, tables of them, and the folder they lie in."""

from experiments.results.files import (
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
from experiments.results.manifest import read_manifest, write_manifest
from experiments.results.records import (
    FILES,
    AdaptationPoint,
    CurvePoint,
    Episode,
    LearningPoint,
    Metric,
    Row,
    WorldRow,
)
from experiments.results.tables import check_name, read_table, write_sessions, write_table

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
