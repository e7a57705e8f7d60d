"""Image normalization in open_clip's list of pretrained weights."""

from open_clip.factory import get_model_config

from workbench.models.preprocessing import OPENAI, architecture_name, normalizations_of, usual_normalization


def test_the_tags_of_an_architecture() -> None:
    assert normalizations_of("ViT-B-32") == (OPENAI,)
    assert normalizations_of("MobileCLIP-S1") == (((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),)
    assert [one == OPENAI for one in normalizations_of("ViT-L-14")] == [True, False]  # laion2b_s32b_b82k has 0.5
    assert normalizations_of("ViT-S-32") == ()
    assert usual_normalization("ViT-S-32", "w.pt") == OPENAI


def test_a_config_is_known_by_its_content_but_for_the_activation() -> None:
    config = get_model_config("MobileCLIP-S1")
    assert architecture_name(config | {"quick_gelu": True}) == "MobileCLIP-S1"
    assert architecture_name(config | {"embed_dim": 3}) == ""
