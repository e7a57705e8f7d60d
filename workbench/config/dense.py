"""Settings of the detector that measures a student's image tower: the table ``[dense]`` of a run."""

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from workbench.config.base import Config

SCHEDULES = {"1x": 12.0, "0.1x": 1.2}  # epochs


class DenseConfig(Config):
    """Dense linear evaluation: Mask R-CNN's heads are trained on the frozen image tower after the last step."""

    data: str = ""
    """SPEC of the detection data: samples:scenes-dense or coco-detection:FILE.json@DIR; "" trains no detector."""
    num_images: int = Field(0, ge=0)
    """Number of training images (the first ones); 0 uses all, or 500 scenes."""
    validation: str = "auto"
    """SPEC of the images to measure on; auto: the validation split of the scenes, or every tenth image of other data,
    which is then not trained on."""
    num_validation_images: int = Field(0, ge=0)
    """Number of images to measure on; 0 uses all, or 200 scenes."""
    boxes_only: bool = False
    """Detect boxes without masks (Faster R-CNN)."""
    epochs: PositiveFloat = SCHEDULES["1x"]
    """Passes over the training images: 12 is the 1x schedule of the papers, 1.2 their 0.1x."""
    batch_size: PositiveInt = 8
    """Images per step (COCO: 16)."""
    learning_rate: PositiveFloat = 4e-3
    """Peak learning rate of AdamW, after a warm-up and before a cosine decay to 0."""
    weight_decay: float = Field(0.05, ge=0)
    """Decoupled weight decay of the heads' weight matrices."""
    image_size: int = Field(128, ge=32)
    """Shorter side of the images in pixels (COCO: 800); the longer side has at most 1.67 times as many."""
    width: PositiveInt = 32
    """Channels of the feature pyramid and the mask head; the box head has four times as many (COCO: 256)."""
    regions: PositiveInt = 32
    """Regions per image on which the heads are trained (COCO: 512)."""

    open_vocabulary: bool = False
    """Classify regions by the text tower (F-VLM), also into classes that no training image has: the held-out
    combinations of the scenes, or dense.unseen."""
    unseen: list[str] = []
    """Names of categories that are not trained on, with dense.open_vocabulary; the scenes have their own."""
    tower_share: float = Field(0.35, ge=0, le=1)
    """Exponent of the frozen tower's own probability in the score of a trained class (F-VLM's alpha)."""
    tower_share_unseen: float = Field(0.65, ge=0, le=1)
    """The same for an unseen class (F-VLM's beta)."""

    @model_validator(mode="after")
    def _check_unseen(self) -> "DenseConfig":
        if self.unseen and not self.open_vocabulary:
            raise ValueError(
                "dense.unseen needs dense.open_vocabulary=true: without it, classes have no names to a detector"
            )
        return self

    @property
    def is_on(self) -> bool:
        """Whether a detector is trained."""
        return bool(self.data)


def count_steps(config: DenseConfig, num_images: int) -> int:
    """Steps of a detector's training on so many images, at least one."""
    return max(1, round(config.epochs * num_images / config.batch_size))
