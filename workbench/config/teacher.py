"""Settings of the teacher, or of several."""

from typing import Any, Literal

from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from workbench.config.base import Config
from workbench.config.mixture import Part, mixture_parts


class TeacherConfig(Config):
    """The frozen teacher model, or several."""

    model: str = ""
    """SPEC of the teacher; "" trains without a teacher. Several are joined by " + ", each with an optional weight in
    their mean, as in "SPEC*2 + SPEC"; in TOML a list will do, too."""
    combine: Literal["logits", "affinities", "embeddings"] = "logits"
    """How several teachers become one: logits is the weighted mean of their logits, each at its own scale; affinities
    is that of their softmaxes, for the losses whose target is a softmax (MobileCLIP); embeddings is that of their
    cosines, at the mean of their scales."""
    scales: tuple[PositiveFloat, ...] = ()
    """Scale 1/τ of each of several teachers, in their order; () takes the one that each has learned."""
    chunk_size: PositiveInt = 256
    """Maximum number of pairs in one teacher forward pass, at most the batch size. Every pass has the same number of
    rows, padded if necessary (batches of 5 to 11 pairs to 12 rows)."""
    cache: Literal["auto", "on", "off"] = "auto"
    """Cache of teacher embeddings on disk, for all data.views: on computes missing entries before training; auto does
    so only if that reduces teacher compute, and reads existing entries."""
    cache_dtype: Literal["float32", "float16"] = "float32"
    """Data type of the cached embeddings: float32 gives identical weights on a CPU; float16 takes half the space and
    needs cache = "on"."""

    @field_validator("model", mode="before")
    @classmethod
    def _joined(cls, model: Any) -> Any:
        """A list of SPECs as one text, the form in which all of them are recorded."""
        if not isinstance(model, list | tuple) or not all(isinstance(one, str) for one in model):
            return model
        if not all(one.strip() for one in model):
            raise ValueError("one of the teachers in the list has no SPEC: name it, or drop it")
        return " + ".join(one.strip() for one in model)

    @model_validator(mode="after")
    def _check_several(self) -> "TeacherConfig":
        teachers = self.teachers
        if self.scales and len(self.scales) != len(teachers):
            raise ValueError(f"scales has {len(self.scales)} numbers for {len(teachers)} teachers: give one of each")
        if self.scales and len(teachers) == 1:
            raise ValueError("scales is for several teachers: set the losses' teacher_scale for a single one")
        if self.combine != "logits" and len(teachers) < 2:
            raise ValueError(f'combine = "{self.combine}" is for several teachers: name them in model, or drop it')
        return self

    @property
    def teachers(self) -> tuple[Part, ...]:
        """The SPEC of each teacher and its weight in the mean; one of weight 1 for a single teacher."""
        return tuple(mixture_parts(self.model)) or ((Part(self.model, 1.0),) if self.model else ())

    @model_validator(mode="after")
    def _check_cache_dtype(self) -> "TeacherConfig":
        if self.cache_dtype == "float16" and self.cache != "on":
            raise ValueError(f'cache_dtype = "float16" needs cache = "on" (it is "{self.cache}")')
        return self
