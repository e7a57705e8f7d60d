"""From one phase of a run to the next: fix the masks, prune the student, add gates, start a new optimizer."""

from collections.abc import Iterator, Mapping
from typing import Any

from workbench.config.run import INHERITED, RunConfig
from workbench.engine.cadence import Phase
from workbench.engine.device import placed
from workbench.engine.member import Member
from workbench.engine.state import TrainState
from workbench.events import Event, StageStarted, Warned
from workbench.inheritance import Gated, gate, inherit, slice_gated
from workbench.inheritance.inheritance_map import InheritanceMap, planned_map
from workbench.inheritance.slicing import with_random_weights
from workbench.losses.learned import LearnedParts
from workbench.models.clip import Clip, count_parameters


def inherited_student(config: RunConfig, source: Clip) -> tuple[Clip, InheritanceMap]:
    """The student that ``[inheritance]`` describes, before its first step, and its map to the source model."""
    assert config.student.model == INHERITED
    plan = config.inheritance
    student = inherit(source, plan)
    if plan.weights == "random":
        student = with_random_weights(student, config.seed)
    return student, planned_map(source, plan)


def make_state(
    student: Clip, learned: LearnedParts, config: RunConfig, phase: Phase, inheritance_map: InheritanceMap | None = None
) -> TrainState:
    """The train state of a phase that starts with this student.

    Raises:
        ValueError: a tower does not support gates, or the stage's target sparsity is reached already.
    """
    device = student.scale.device
    if phase.gates is None:
        return TrainState(student, learned, config.optimizer)
    assert inheritance_map is not None
    gated = gate(student, phase.gates, inheritance_map.num_weights)
    return TrainState(placed(gated.clip, device), learned, config.optimizer, gated.gates.to(device))


def advance_stage(member: Member, step: int) -> Iterator[Event]:
    """Move the member into the phase that starts after ``step`` steps, if one does: masks are fixed and cut out."""
    if not member.cadence.enters_stage_at(step):
        return
    before, inheritance_map = member.state, member.inheritance_map
    assert inheritance_map is not None
    student = before.student
    if before.gates:
        # Learned gates meet the sparsity only in expectation, the final masks exactly. Slicing removes what they close
        # and multiplies open gates into the weights.
        masks = before.gates.final_masks()
        before.gates.fix(masks)
        student = placed(slice_gated(Gated(student, before.gates)), student.scale.device)
        inheritance_map = inheritance_map.after(masks)
    # The optimizer starts again: its moments have the shapes from before the pruning. What losses have learned, such as
    # projections and scales, continues where its shape is unchanged.
    member.enter(student, inheritance_map, step)
    own, earlier = member.state.learned.state_dict(), before.learned.state_dict()
    fitting = {name: tensor for name, tensor in earlier.items() if tensor.shape == own[name].shape}
    member.state.learned.load_state_dict(fitting, strict=False)
    yield started(member, step)
    if reset := LearnedParts.owners(own.keys() - fitting.keys()):
        yield Warned(run=member.run, step=step, message=f"shape changed, re-initialized: {', '.join(reset)}")


def started(member: Member, step: int) -> StageStarted:
    """The event of the phase that starts after ``step`` steps, with the student's size."""
    phase = member.phase(step)
    assert phase.stage is not None
    sizes = count_parameters(member.state.student)
    return StageStarted(
        run=member.run,
        step=step,
        name=str(phase),
        stage=phase.stage,
        until=phase.end,
        learns_masks=phase.gates is not None,
        num_parameters=sizes["total"],
        num_embedding_parameters=sizes["embeddings"],
        kept_fraction=member.kept_fraction,
    )


def save_masks(member: Member, step: int) -> Iterator[Event]:
    """Save a mask snapshot."""
    inheritance_map, phase, gates = member.inheritance_map, member.phase(step), member.state.gates
    assert inheritance_map is not None
    target = gates.target(step - phase.start) if gates else None
    yield from member.save_snapshot(
        step, "masks", lambda: inheritance_map.snapshot(step, phase.stage or 0, gates, target)
    )


def document(member: Member) -> dict[str, Any]:
    """Manifest entries that :func:`reenter` needs; empty for a student that inherits nothing."""
    if member.inheritance_map is None:
        return {}
    return {"inheritance": {"model": member.state.student.config, **member.inheritance_map.document()}}


def reenter(member: Member, manifest: Mapping[str, Any], step: int) -> None:
    """Give the member the architecture it had after ``step`` steps; its weights are not loaded yet."""
    if "inheritance" not in manifest:
        return
    before = member.state.student
    # The config describes the student before its first step; how it was pruned since is in the manifest alone.
    student = Clip(manifest["inheritance"]["model"], before.tokenizer, **before.preprocessing)
    for tower in before.frozen:
        student.freeze(tower)
    member.enter(placed(student, before.scale.device), InheritanceMap.from_document(manifest["inheritance"]), step)
