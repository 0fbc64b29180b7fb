from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from torch import Tensor

from genkt.generative.completer import CompletionOptions
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.inpainting import Inpainter

PLAIN = CompletionOptions(Sampling())
KEEP = CompletionOptions(Sampling(), keep_visible=True)


def repaint_folder(folder: Path) -> Path:
    """A pipeline without a prompt: pixels of 32 x 32, masks white where the picture stays."""
    from diffusers import RePaintPipeline, RePaintScheduler, UNet2DModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=32, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
            down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        )  # fmt: skip
    RePaintPipeline(unet, RePaintScheduler()).save_pretrained(folder)
    return folder


def stable_parts(in_channels: int) -> dict[str, Any]:
    """The networks of a tiny Stable Diffusion: 32 x 32 pixels, 16 x 16 latents."""
    transformers = pytest.importorskip("transformers")
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    words = ["<|startoftext|>", "<|endoftext|>", "a</w>", "c", "a", "t</w>", "ca", "cat</w>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = transformers.CLIPTextConfig(
            vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=77, bos_token_id=0, eos_token_id=1,
            pad_token_id=1,
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=16, in_channels=in_channels, out_channels=4, cross_attention_dim=8,
            block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
            attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, sample_size=32,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        )  # fmt: skip
        return {
            "vae": vae, "unet": unet, "text_encoder": transformers.CLIPTextModel(text),
            "tokenizer": transformers.CLIPTokenizer(
                vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")], model_max_length=77
            ),
            "scheduler": DDIMScheduler(clip_sample=False, steps_offset=1),
            "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False,
        }  # fmt: skip


@pytest.fixture(scope="module")
def repaint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repaint_folder(tmp_path_factory.mktemp("repaint"))


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """StableDiffusionInpaintPipeline, its UNet told the mask (nine channels)."""
    parts = stable_parts(9)
    from diffusers import StableDiffusionInpaintPipeline

    folder = tmp_path_factory.mktemp("stable")
    StableDiffusionInpaintPipeline(**parts).save_pretrained(folder)
    return folder


def pictures(count: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Random pictures, each with its right part hidden from another column on."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator).byte()
    masks = torch.zeros(count, size, size, dtype=torch.bool)
    for number, mask in enumerate(masks):
        mask[:, size // 2 + number :] = True
    return images, masks


def check_completions(inpainter: Inpainter) -> None:
    """What every pipeline must do: shapes, seeds, no influence of the batch, visible pixels."""
    images, masks = pictures(3)
    seeds = [[1, 2], [3, 4], [5, 6]]
    done = inpainter.complete_images(images, masks, seeds, PLAIN)
    assert done.images.shape == (3, 2, 3, 32, 32) and done.images.dtype == torch.uint8
    assert done.tokens is None and done.hidden is None
    assert not torch.equal(done.images[:, 0], done.images[:, 1])
    order = [2, 0]
    again = inpainter.complete_images(
        images[order], masks[order], [seeds[i][::-1] for i in order], PLAIN
    )
    assert torch.equal(again.images, done.images[order].flip(1))
    kept = inpainter.complete_images(images, masks, seeds, KEEP).images
    hidden = masks[:, None, None].expand_as(kept)
    assert torch.equal(kept[hidden], done.images[hidden])
    assert torch.equal(kept[~hidden], images[:, None].expand_as(kept)[~hidden])
    assert (kept != images[:, None])[hidden].double().mean() > 0.9


def test_without_a_prompt(repaint: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inpainter = Inpainter.load(repaint, num_steps=3)
    assert inpainter.size == inpainter.side == 32
    check_completions(inpainter)
    assert capfd.readouterr().err == ""  # no bars, no advice


def test_a_white_mask_that_means_visible(repaint: Path) -> None:
    """RePaint ends on the source's own pixels: that they stay shows which side is which."""
    images, masks = pictures(1)
    done = Inpainter.load(repaint, num_steps=20).complete_images(images, masks, [[1]], PLAIN).images
    off = (done[0, 0].int() - images[0].int()).abs().double()
    assert off[:, ~masks[0]].mean() < 5 < 30 < off[:, masks[0]].mean()


def test_other_sizes_go_there_and_back(repaint: Path) -> None:
    inpainter = Inpainter.load(repaint, num_steps=3, size=24)
    assert inpainter.size == 24 and inpainter.side == 32
    images, masks = pictures(1, 24)
    kept = inpainter.complete_images(images, masks, [[1]], KEEP).images
    assert kept.shape == (1, 1, 3, 24, 24)
    visible = ~masks[0].expand(3, -1, -1)
    assert torch.equal(kept[0, 0][visible], images[0][visible])
    wide = inpainter.complete_images(images[:, :, :10], masks[:, :10], [[1]], KEEP).images
    assert wide.shape == (1, 1, 3, 10, 24)


def test_stable_diffusion(stable: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inpainter = Inpainter.load(stable, num_steps=2)
    assert inpainter.side == 32 and inpainter.pipeline.safety_checker is None
    capfd.readouterr()
    check_completions(inpainter)
    assert capfd.readouterr().err == ""


def test_prompt_guidance_and_strength_count(stable: Path) -> None:
    images, masks = pictures(1)
    seen, prints = [], []
    for words in (
        {}, {"prompt": "a cat"}, {"prompt": "a cat", "guidance": 1.0}, {"strength": 0.5},
    ):  # fmt: skip
        inpainter = Inpainter.load(stable, num_steps=2, **words)  # type: ignore[arg-type]
        prints.append(inpainter.fingerprint())
        seen.append(inpainter.complete_images(images, masks, [[1]], PLAIN).images)
    assert len(set(prints)) == 4
    for number, one in enumerate(seen):
        assert not any(torch.equal(one, other) for other in seen[:number])


def test_a_text_to_image_pipeline_becomes_one_that_inpaints(tmp_path: Path) -> None:
    parts = stable_parts(4)
    from diffusers import StableDiffusionPipeline

    StableDiffusionPipeline(**parts).save_pretrained(tmp_path)
    inpainter = Inpainter.load(tmp_path, num_steps=2)
    assert type(inpainter.pipeline).__name__ == "StableDiffusionInpaintPipeline"
    check_completions(inpainter)


def test_the_fingerprint_is_of_everything(repaint: Path) -> None:
    one, same = Inpainter.load(repaint, num_steps=3), Inpainter.load(repaint, num_steps=3)
    assert one.fingerprint() == same.fingerprint()
    assert one.fingerprint() != Inpainter.load(repaint, num_steps=4).fingerprint()
    assert one.fingerprint() != Inpainter.load(repaint, num_steps=3, side=64).fingerprint()
    with torch.no_grad():
        next(same.pipeline.unet.parameters()).add_(1)
    assert one.fingerprint() != same.fingerprint()


def test_what_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # no waiting
    with refused("model_index.json") as error:
        Inpainter.load("someone/no-such-pipeline")
    assert "\n" not in str(error.value) and "someone/no-such-pipeline" in str(error.value)
    for folder in (tmp_path, "./no/such/folder"):
        with refused("model_index.json"):
            Inpainter.load(folder)
    index = {"_class_name": "DDPMPipeline", "_diffusers_version": "0.30.0"}
    (tmp_path / "model_index.json").write_text(json.dumps({**index, "x": ["nowhere", "Y"]}))
    with refused(tmp_path):
        Inpainter.load(tmp_path)


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers has stand-ins for pipelines that cannot work, which tell what they need."""
    import diffusers

    stand_in = type("StableDiffusionInpaintPipeline", (), {"_backends": ["torch", "no_such"]})
    monkeypatch.setattr(diffusers, "StableDiffusionInpaintPipeline", stand_in)
    index = {"_class_name": "StableDiffusionInpaintPipeline", "_diffusers_version": "0.30.0"}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with refused("genkt[inpainting]", "no_such"):
        Inpainter.load(tmp_path)


def test_a_pipeline_that_does_not_inpaint(repaint: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler, RePaintPipeline

    unet = RePaintPipeline.from_pretrained(repaint).unet
    with refused("DDPMPipeline", key="inpainter inpainter"):
        Inpainter(DDPMPipeline(unet, DDPMScheduler()))


def test_values_it_does_not_take(repaint: Path) -> None:
    words = {"prompt": "a cat", "guidance": 2.0, "strength": 0.5}
    with refused("guidance_scale"):
        Inpainter.load(repaint, **words)  # type: ignore[arg-type]
    with refused(key="num_steps", got=0):
        Inpainter.load(repaint, num_steps=0)
    with refused(key="strength", got="1.5"):
        Inpainter.load(repaint, strength=1.5)
    inpainter = Inpainter.load(repaint, num_steps=2)
    images, masks = pictures(2)
    with refused(key="seeds", got=1):
        inpainter.complete_images(images, masks, [[1]], PLAIN)
    with refused("masks 0, 1"):
        inpainter.complete_images(images, masks & False, [[1], [2]], PLAIN)
    odd = Inpainter.load(repaint, num_steps=2, side=40)  # RePaint cuts masks to multiples of 32
    with refused("RePaintPipeline") as error:
        odd.complete_images(images, masks, [[1], [2]], PLAIN)
    assert "\n" not in str(error.value)
