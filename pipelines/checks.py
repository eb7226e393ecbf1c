"""The asset checks: what must hold for each drop and for all data, and what should hold for a drop.

For each drop: its counts balance, and the invariants of the core hold for the entities that it names; for a large drop
for about 1,000 of them, so that the checks cost little. These are blocking: the run fails, and no report is made
automatically while one of them is broken. The rate of rejects warns above 10 % and is an error above 50 %, but does not
block: the good rows were recorded, as the drop contract says, and the report must show the bad ones.

For all data: the same invariants, daily, as checks of the asset `invariants`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from datetime import timedelta

import dagster as dg

# It has no public name; without it the UI shows a check of one of many partitions as outdated.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from crm_core.report.numbers import DropReport
from crm_core.resources import description
from crm_core.timeline.invariants import CHECKS, NOT_OF_ENTITIES, Check
from pipelines.ingestion import Refused, Taken, Waiting
from pipelines.partitions import drops

REJECTS_WARN, REJECTS_ERROR = 0.1, 0.5  # rejected / read
FRESH = timedelta(hours=36)  # drops are expected daily
NOTHING_TO_CHECK = "Nothing of the drop was recorded, so there is nothing to check."
INVARIANTS: Mapping[str, str] = {name[3:]: description(f"check/{name}") for name in CHECKS}

_ASSETS = {  # the asset of each invariant; the default is entity_versions
    "02_one_current_detail": "detail_versions",
    "04_detail_intervals": "detail_versions",
    "06_detail_within_entity": "detail_versions",
    "08_detail_hashdiffs": "detail_versions",
    "10_details_are_the_fold": "detail_versions",
    "12_every_change_has_a_batch": "staged_changes",
    "13_what_is_undone_does_not_act": "staged_changes",
    "17_keys_name_what_was_linked": "staged_changes",
}


def _of_drops(name: str, asset: str, text: str, *, blocking: bool = True) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Without partitions_def the last drop would hide the checks of all others.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(name, asset=asset, description=text, blocking=blocking, partitions_def=drops)


OF_DROPS: tuple[dg.AssetCheckSpec, ...] = (
    _of_drops("books_balance", "staged_changes", "Read = accepted + rejected, accepted = changed + unchanged."),
    _of_drops(
        "reject_rate",
        "rejected_rows",
        f"Above {REJECTS_WARN:.0%} of the rows a warning, above {REJECTS_ERROR:.0%} an error; good rows are recorded.",
        blocking=False,
    ),
    _of_drops(
        "nothing_to_decide",
        "drop_file",
        "The drop does not wait for a decision: a snapshot that would end too much is held until it is approved.",
        blocking=False,
    ),
    *(
        _of_drops(
            name[3:],
            _ASSETS.get(name, "entity_versions"),
            f"{INVARIANTS[name[3:]]} Checked for the entities that the drop names, or for about 1,000 of them.",
        )
        for name in CHECKS
        if name not in NOT_OF_ENTITIES
    ),
)
OF_ALL: tuple[dg.AssetCheckSpec, ...] = tuple(
    dg.AssetCheckSpec(name, asset="invariants", description=text, blocking=True) for name, text in INVARIANTS.items()
)
DROPS_KEEP_COMING = dg.AssetCheckSpec(
    "drops_keep_coming",
    asset="data_quality_report",
    description=f"The newest drop is no older than {FRESH.total_seconds() / 3600:.0f} hours.",
)


def checks_of_drop(instance: dg.DagsterInstance, key: str, taken: Taken) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the checks of a drop, after its assets have been materialized."""
    for spec in OF_DROPS:
        result = (
            _books_result(taken.drop)
            if spec.name == "books_balance"
            else _rejects_result(taken.drop)
            if spec.name == "reject_rate"
            else dg.AssetCheckResult(passed=True, metadata={"held": False})
            if spec.name == "nothing_to_decide"
            else invariant_result(taken.invariants[spec.name], taken.entities)
        )
        yield _evaluation(instance, key, spec, result)


def checks_of_waiting(instance: dg.DagsterInstance, key: str, waiting: Waiting) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the checks of a held snapshot: a warning that it waits, and nothing to check besides."""
    for spec in OF_DROPS:
        waits = spec.name == "nothing_to_decide"
        said = waiting.summary if waits else NOTHING_TO_CHECK
        result = dg.AssetCheckResult(passed=not waits, severity=dg.AssetCheckSeverity.WARN, description=said)
        yield _evaluation(instance, key, spec, result)


def checks_of_refused(instance: dg.DagsterInstance, key: str, refused: Refused) -> Iterator[dg.AssetCheckEvaluation]:
    """Yield the checks of a refused drop: those of the earlier drop with its name, or nothing to check.

    A check without a result from a failed run would be shown as failed.
    """
    if refused.before is not None:
        yield from checks_of_drop(instance, key, refused.before)
        return
    for spec in OF_DROPS:
        nothing = dg.AssetCheckResult(passed=True, description=NOTHING_TO_CHECK)
        yield _evaluation(instance, key, spec, nothing)


def _evaluation(
    instance: dg.DagsterInstance, key: str, spec: dg.AssetCheckSpec, result: dg.AssetCheckResult
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=spec.asset_key,
        check_name=spec.name,
        passed=result.passed,
        metadata=result.metadata,
        target_materialization_data=_latest(instance, spec.asset_key, key),
        severity=result.severity,
        description=result.description,
        blocking=spec.blocking,
        partition=key,
    )


def invariant_result(found: Check, entities: int | None = None) -> dg.AssetCheckResult:
    """Return the result of an invariant, over all data or over a number of entities."""
    metadata: dict[str, dg.MetadataValue] = {"breaches": dg.MetadataValue.int(found.breaches)}
    if entities is not None:
        metadata["entities"] = dg.MetadataValue.int(entities)
    if found.examples:
        metadata["first"] = dg.MetadataValue.table([dg.TableRecord({"breach": line}) for line in found.examples])
    text = None if found.holds else f"{found.breaches:,} breaches: see `crm check`, and restore the damaged data"
    return dg.AssetCheckResult(passed=found.holds, check_name=found.name, metadata=metadata, description=text)


def freshness_result(age_seconds: float | None) -> dg.AssetCheckResult:
    """Return the result for the age of the newest drop; None means that none has arrived."""
    hours = None if age_seconds is None else round(age_seconds / 3600, 1)
    return dg.AssetCheckResult(
        passed=age_seconds is not None and age_seconds <= FRESH.total_seconds(),
        check_name=DROPS_KEEP_COMING.name,
        severity=dg.AssetCheckSeverity.WARN,
        description="no drop has arrived yet" if hours is None else f"the newest drop arrived {hours:,} hours ago",
        metadata={} if hours is None else {"hours": hours},
    )


def _books_result(drop: DropReport) -> dg.AssetCheckResult:
    names = ("rows_read", "rows_accepted", "rows_rejected", "rows_changed", "rows_unchanged")
    return dg.AssetCheckResult(passed=drop.balances, metadata={name: getattr(drop, name) for name in names})


def _rejects_result(drop: DropReport) -> dg.AssetCheckResult:
    share = drop.reject_share or 0.0
    return dg.AssetCheckResult(
        passed=share <= REJECTS_WARN,
        severity=dg.AssetCheckSeverity.WARN if share <= REJECTS_ERROR else dg.AssetCheckSeverity.ERROR,
        description=f"{drop.rows_rejected:,} of {drop.rows_read:,} rows were rejected",
        metadata={"reject_share": round(share, 4), "rows_rejected": drop.rows_rejected, "rows_read": drop.rows_read},
    )


def _latest(
    instance: dg.DagsterInstance, asset: dg.AssetKey, key: str
) -> AssetCheckEvaluationTargetMaterializationData | None:
    found = instance.fetch_materializations(dg.AssetRecordsFilter(asset, asset_partitions=[key]), limit=1).records
    if not found:
        return None
    return AssetCheckEvaluationTargetMaterializationData(
        storage_id=found[0].storage_id, run_id=found[0].run_id, timestamp=found[0].timestamp
    )
