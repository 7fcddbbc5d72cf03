"""Files of an experiment: records, tables of them, and the folder they lie in."""

from experiments.store.folder import (
    CHECKPOINTS,
    MANIFEST,
    REPORT,
    RUNS,
    SESSIONS,
    ResultsError,
    open_folder,
    read_manifest,
    storing,
    write_file,
    write_manifest,
)
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
    "CHECKPOINTS",
    "FILES",
    "MANIFEST",
    "REPORT",
    "RUNS",
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
