"""The cost model of safe RLHF: how harmful a response is, learned from comparisons and from what is harmful at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch.nn.functional import logsigmoid

from kilter.engine.batch import Groups
from kilter.engine.loss import Loss
from kilter.engine.values import Values
from kilter.errors import KilterError
from kilter.records import Group, Record
from kilter.registry import Amount, method
from kilter.training.objective import learns_from


def by_safety(records: list[Record], *, sign_weight: Amount = 1.0) -> tuple[list[Record], list[str]]:
    """Return the records with PKU-SafeRLHF's groups, which are ranked by helpfulness, ranked by safety and labelled.

    Groups without labels are left out where they are due. Raises KilterError where no other is left.
    """
    found = [_by_safety(record) for record in records]
    turned = sum(new is not old for new, old in zip(found, records, strict=True))
    notes = [f"{turned} records are ranked by their columns of safety, not of helpfulness."] if turned else []
    kept = [record for record in found if not sign_weight or (isinstance(record, Group) and record.labels is not None)]
    if not kept:
        raise KilterError(
            "A cost model learns which responses are harmful at all, and no group has labels; give each response a "
            "label, true where it is safe, or set sign_weight to 0."
        )
    if left := len(found) - len(kept):
        notes.append(f"{left} of {len(found)} records have no labels of what is safe and are left out.")
    return kept, notes


def _by_safety(record: Record) -> Record:
    extra: dict[str, Any] = record.meta.get("extra") or {}
    safer, safe = extra.get("safer_response_id"), [extra.get(f"is_response_{k}_safe") for k in (0, 1)]
    if not isinstance(record, Group) or safer not in (0, 1) or not all(isinstance(flag, bool | int) for flag in safe):
        return record
    return replace(record, ranking=[int(k != safer) for k in (0, 1)], labels=[bool(flag) for flag in safe])


@method("cost-model", wing="training", paper="arXiv:2310.12773")
@learns_from("pairs", trains="judge", records=by_safety)
def cost_model(values: Values, group: Groups, *, sign_weight: Amount = 1.0) -> Loss:
    """A cost model with a meaning of zero (Dai et al. 2023, eq. 6).

    L = - log sigma(C(y_l) - C(y_w)) - w [log sigma(s_w C(y_w)) + log sigma(s_l C(y_l))] for each pair, y_w being the
    one that people found safer, w `sign_weight`, s = -1 for a response that they found safe and +1 for one that they
    found harmful: costs are ordered as pairs are, and above 0 where something is harmful, which a reward model of pairs
    alone can not say. Groups bring the order as scores or a ranking (higher is safer) and `labels`, true where a
    response is safe; from labels alone the safe ones are the better; PKU-SafeRLHF's own columns are read too. The mean
    over a prompt's pairs, then over prompts, as for `rm-bt`. The model is used as the option `cost` of `safe-rlhf`.

    values: ends [R] are C; group.pairs [N, 2] are rows of the safer and the more harmful response, group.labels [R].
    The result is per pair [N]. sign_accuracy counts the responses of a pair whose cost has the right sign.

    Options:
        sign_weight: weight of the terms that say where 0 is; 0 makes it a reward model of harm
    """
    costs, (safer, harmful) = values.ends, group.pairs.T
    lead = costs[harmful] - costs[safer]
    loss = -logsigmoid(lead)
    metrics = {"accuracy": (lead > 0).float() + 0.5 * (lead == 0).float(), "cost_margin": lead}
    if group.labels is not None:
        signed = costs * (1 - 2 * group.labels.to(costs))
        metrics["sign_accuracy"] = ((signed[safer] > 0).float() + (signed[harmful] > 0).float()) / 2
        loss = loss - sign_weight * (logsigmoid(signed[safer]) + logsigmoid(signed[harmful]))
    trees = group.group_of[safer]
    share = 1 / costs.new_zeros(len(costs)).index_add(0, trees, costs.new_ones(len(lead)))[trees]
    return Loss(loss * share, share, metrics)
