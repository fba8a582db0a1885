"""Stage 01: the list of subjects that a configuration asks for, and the making of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from splathead.config import Config, SubjectsConfig
from splathead.subjects.base import HeadMesh
from splathead.subjects.generate import FACE_EDGE_MM, WearOptions
from splathead.subjects.rig import subject_cameras
from splathead.subjects.splits import assign_splits
from splathead.subjects.writer import SubjectLabel, write_subject

GENERATED = {"anny": ("anny",), "ict": ("ict",), "ict+anny": ("ict", "anny")}
"""``subjects.source`` -> head models that take turns"""
_SEEDS_PER_RUN = 100_000
_COARSEST_EDGE_MM = 4.0


@dataclass(frozen=True)
class SubjectPlan:
    """One subject to make: its label and, for scans and captures, the file or folder it comes from."""

    label: SubjectLabel
    path: Path | None = None


def plan_subjects(config: Config) -> dict[str, SubjectPlan]:
    """Subject name -> plan for every subject of the configuration, in order. Errors name what is missing where.

    ``photos`` and ``facelift`` make no subject here: stage 02 does, by FaceLift.
    """
    settings = config.subjects
    if settings.source in GENERATED:
        return _plan_generated(config, GENERATED[settings.source])
    if settings.source in ("photos", "facelift"):
        return {}
    files = _find(settings)
    splits = _splits(list(files), config)
    scale = "nominal" if settings.source == "capture" or settings.size_mm else "metric"
    if settings.repeats < 1 or (settings.repeats > 1 and settings.source != "scan"):
        raise ValueError(f"subjects.repeats: {settings.repeats} with source {settings.source}, expected 1 (scan: at least 1)")
    plans = {}
    for identity, path in files.items():
        for repeat in range(settings.repeats):
            name = f"{identity}_s{repeat}" if settings.repeats > 1 else identity
            seed = config.seed * _SEEDS_PER_RUN + len(plans)
            plans[name] = SubjectPlan(SubjectLabel(name, identity, settings.source, splits[identity], seed, scale), path)
    return plans


def _plan_generated(config: Config, models: tuple[str, ...]) -> dict[str, SubjectPlan]:
    """Heads of one model, or of several in turn; each model has its share of every split."""
    settings, plans = config.subjects, {}
    for place, model in enumerate(models):

        def share(count: int, place: int = place) -> int:
            return count // len(models) + (place < count % len(models))

        names = [f"{model}_{k:04d}" for k in range(share(settings.count))]
        splits = assign_splits(names, config.seed, val=share(settings.val), test=share(settings.test))
        for k, name in enumerate(names):
            seed = config.seed * _SEEDS_PER_RUN + place * (_SEEDS_PER_RUN // 2) + k  # each model its own detail and wear
            if splits[name] in settings.splits:
                plans[name] = SubjectPlan(SubjectLabel(name, name, model, splits[name], seed))
    return dict(sorted(plans.items()))


def _find(settings: SubjectsConfig) -> dict[str, Path]:
    """Subject name -> scan file or capture folder of ``settings.path``."""
    if not settings.path:
        raise ValueError(f"subjects.path is empty, expected the {settings.source}'s file or folder")
    if settings.source == "capture":
        from splathead.subjects.capture import find_captures

        return find_captures(Path(settings.path))
    from splathead.subjects.importer import subject_name
    from splathead.subjects.scan import list_scans

    files: dict[str, Path] = {}
    for path in list_scans(Path(settings.path)):
        name = subject_name(Path(path.stem))
        if name in files:
            raise ValueError(f"{path} and {files[name]} would both be subject {name!r}; rename one")
        files[name] = path
    return files


def _splits(identities: list[str], config: Config) -> dict[str, str]:
    settings = config.subjects
    if settings.test_only or settings.source == "capture":
        return dict.fromkeys(identities, "test")
    return assign_splits(identities, config.seed, val=settings.val, test=settings.test)


def face_edge_mm(map_size: int) -> float:
    """Longest edge in the face: 1 mm at 1024 pixels (one pixel sees 0.44 mm), coarser for smaller maps."""
    return float(min(max(FACE_EDGE_MM * 1024 / map_size, FACE_EDGE_MM), _COARSEST_EDGE_MM))


def make_head(config: Config, plan: SubjectPlan, model_path: Path | None = None) -> HeadMesh:
    """The head mesh of one plan. ``model_path`` overrides ``subjects.path`` for ICT-FaceKit."""
    settings = config.subjects
    wear = WearOptions(settings.hair_fraction, settings.collar_fraction)
    edge = face_edge_mm(settings.map_size)
    if plan.label.source == "anny":
        from splathead.subjects.anny import anny_head

        return anny_head(plan.label.seed, wear, edge)
    if plan.label.source == "ict":
        from splathead.subjects.ict import ict_head

        return ict_head(model_path or Path(settings.path), plan.label.seed, wear, edge)
    from splathead.subjects.scan import load_scan

    assert plan.path is not None
    return load_scan(plan.path, settings.up, settings.front, settings.size_mm, settings.flip_v)


def collect_subject(config: Config, plans: dict[str, SubjectPlan], model_path: Path | None, name: str, out_dir: Path) -> None:
    """Make subject ``name`` and write its files into ``out_dir`` (for ``Stage.run_items``)."""
    plan, settings = plans[name], config.subjects
    if settings.source == "capture":
        from splathead.subjects.capture import capture_subject
        from splathead.subjects.importer import report_lines

        assert plan.path is not None
        report_lines(capture_subject(plan.path, out_dir, config).lines)
        return
    cameras = subject_cameras(
        plan.label.seed, fit_views=settings.fit_views, heldout_views=settings.heldout_views, fit_size=settings.fit_size,
        map_yaws_deg=settings.map_yaws, map_size=settings.map_size, map_elevations_deg=settings.map_elevations,
    )  # fmt: skip
    write_subject(out_dir, make_head(config, plan, model_path), cameras, plan.label, settings.init_points)


def prepare_model(config: Config, cache_folder: Path) -> Path | None:
    """For ICT-FaceKit's OBJ folder: read it once into a compact npz below ``cache_folder``, which workers load in a second."""
    settings = config.subjects
    if "ict" not in GENERATED.get(settings.source, ()):
        return None
    if not settings.path:
        where = "github.com/ICT-VGL/ICT-FaceKit"
        raise ValueError(f"subjects.path is empty, expected ICT-FaceKit's folder or a compact npz of it ({where})")
    path = Path(settings.path)
    if not path.is_dir():
        return path
    from splathead.subjects.ict import load_ict, save_compact

    compact = cache_folder / "ict_facekit.npz"
    if not compact.is_file():
        save_compact(compact, load_ict(path))
    return compact
