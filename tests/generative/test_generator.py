"""The generator: pictures in, pictures out; nothing hidden leaks, nothing depends on company."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refused
from test_latent_transformer import tiny as tiny_transformer
from test_vqgan import pictures
from test_vqgan import tiny as tiny_vqgan
from tiny_generator import save_tiny_generator

from genkt.files import SEALS
from genkt.generative.completer import CompletionOptions
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.generator import Generator, load_generator
from genkt.types import DamagedError

SIZE = 16


def tiny() -> Generator:
    return Generator(tiny_vqgan(num_codes=16), tiny_transformer(), "tiny")


def lower_half(num: int | None = None) -> torch.Tensor:
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[SIZE // 2 :] = True
    return mask if num is None else mask.expand(num, -1, -1)


def test_reconstruction_is_encode_then_decode() -> None:
    generator, images = tiny(), pictures(70)
    rebuilt = generator.reconstruct(images)
    vqgan = generator.vqgan
    for part in (slice(3), slice(61, 70), slice(7, 24)):
        assert torch.equal(rebuilt[part], vqgan.decode(vqgan.encode(images[part])))
    assert rebuilt.shape == images.shape and rebuilt.dtype == torch.uint8
    assert generator.reconstruct([]).shape == (0, 3, SIZE, SIZE)


def test_pictures_of_any_size_are_fitted() -> None:
    generator = tiny()
    wide = Image.fromarray(np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3))
    grey = np.full((7, 9), 200, dtype=np.uint8)
    fitted = generator.as_images([wide, grey])
    assert fitted.shape == (2, 3, SIZE, SIZE)
    assert fitted[1].unique().tolist() == [200]
    middle = wide.resize((32, 16), Image.Resampling.BICUBIC).crop((8, 0, 24, 16))
    assert torch.equal(fitted[0], torch.from_numpy(np.array(middle)).permute(2, 0, 1))


def test_arrays_are_one_picture_or_several_and_nothing_else() -> None:
    generator = tiny()
    array = np.random.default_rng(0).integers(256, size=(2, 20, 18, 3), dtype=np.uint8)
    several = generator.as_images(array)
    assert torch.equal(several[:1], generator.as_images(array[0]))
    assert torch.equal(several, generator.as_images(list(array)))
    assert generator.as_images(array[0, ..., 0]).shape == (1, 3, SIZE, SIZE)
    for wrong in (array / 255, array.transpose(0, 3, 1, 2)):
        with refused("uint8", "[H, W, 3]", key="images"):
            generator.as_images(wrong)


def test_many_completions_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, drawn = tiny().complete(pictures(5), lower_half(), num_samples=3), []
    generator = tiny()
    draw = generator.draw

    def counted(tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        drawn.append(len(tokens))
        return draw(tokens, *rest)

    monkeypatch.setattr("genkt.generative.generator._ROWS", 7)
    monkeypatch.setattr(generator, "draw", counted)
    parts = generator.complete(pictures(5), lower_half(), num_samples=3)
    assert drawn == [2, 2, 1] and torch.equal(parts.images, whole.images)
    assert parts.tokens is not None and whole.tokens is not None and parts.hidden is not None
    assert torch.equal(parts.tokens, whole.tokens) and len(parts.hidden) == 5
    assert generator.complete([], lower_half()).images.shape == (0, 1, 3, SIZE, SIZE)


def test_completions_do_not_depend_on_company_or_number() -> None:
    generator, images = tiny(), pictures(5)
    whole = generator.complete(images, lower_half(), num_samples=3, seed=7)
    assert whole.tokens is not None
    for index in range(5):
        alone = generator.complete(images[index : index + 1], lower_half(), num_samples=2, seed=7)
        assert alone.tokens is not None
        assert torch.equal(alone.tokens[0], whole.tokens[index, :2])
        assert torch.equal(alone.images[0], whole.images[index, :2])
    other = generator.complete(images, lower_half(), num_samples=3, seed=8)
    assert other.tokens is not None and not torch.equal(other.tokens, whole.tokens)


def test_nothing_hidden_leaks_into_a_masked_completion() -> None:
    generator, images = tiny(), pictures(4)
    changed = images.clone()
    changed[:, :, SIZE // 2 :] = pictures(4, seed=9)[:, :, SIZE // 2 :]
    options = CompletionOptions(Sampling(), "masked", "edge", 1)
    seeds = [[1], [2], [3], [4]]
    first, second = (
        generator.complete_images(each, lower_half(4), seeds, options) for each in (images, changed)
    )
    assert torch.equal(first.images, second.images)
    full = CompletionOptions(Sampling(), "full", "edge", 0)
    tokens = [generator.visible_tokens(i, lower_half(4), full)[0][:, :2] for i in (images, changed)]
    assert not torch.equal(*tokens)  # the encoder sees far


def test_dilation_hides_a_ring_more() -> None:
    generator, images = tiny(), pictures(1)
    rows = []
    for dilation in (0, 1):
        options = CompletionOptions(Sampling(), dilation=dilation)
        rows.append(int(generator.visible_tokens(images, lower_half(1), options)[1].sum()) // 4)
    assert rows == [2, 3]


def test_masks_may_be_pictures() -> None:
    generator, images = tiny(), pictures(2)
    masks = [Image.fromarray(mask.numpy()) for mask in lower_half(2)]
    assert torch.equal(
        generator.complete(images, masks).images, generator.complete(images, lower_half(2)).images
    )


def test_keep_visible_puts_the_sources_pixels_back() -> None:
    generator, images = tiny(), pictures(2)
    kept = generator.complete(images, lower_half(), num_samples=2, keep_visible=True).images
    assert torch.equal(kept[:, 0, :, : SIZE // 2], images[:, :, : SIZE // 2])
    assert torch.equal(kept[:, 1, :, : SIZE // 2], images[:, :, : SIZE // 2])
    drawn = generator.complete(images, lower_half(), num_samples=2).images
    assert torch.equal(kept[:, :, :, SIZE // 2 :], drawn[:, :, :, SIZE // 2 :])


@pytest.mark.parametrize(
    ("mask", "named"),
    [
        (torch.zeros(SIZE, SIZE, dtype=torch.bool), "masks 0, 1"),
        (torch.ones(SIZE, SIZE, dtype=torch.bool), "masks 0, 1"),
        (torch.ones(SIZE, 4, dtype=torch.bool), "[2, 16, 4]"),
        (torch.ones(SIZE, SIZE), "float32"),
    ],
)
def test_wrong_masks_are_refused(mask: torch.Tensor, named: str) -> None:
    with refused("masks", named):
        tiny().complete(pictures(2), mask)


def test_other_mistakes_are_told() -> None:
    generator = tiny()
    with refused(key="images", got="torch.uint8 [1, 3, 20, 20]"):
        generator.reconstruct(pictures(1, size=20))
    with refused(key="num_samples", got=0):
        generator.complete(pictures(1), lower_half(), num_samples=0)
    with refused(16, 8):
        Generator(tiny_vqgan(num_codes=16), tiny_transformer(num_codes=8))
    with refused("IRF"):
        Generator(tiny_vqgan()).complete(pictures(1), lower_half())


def test_a_folder_is_a_generator(tmp_path: Path) -> None:
    generator = tiny()
    generator.vqgan.save(tmp_path / "g" / "vqgan")
    assert load_generator(tmp_path / "g").completer is None
    generator.completer.save(tmp_path / "g" / "transformer")  # type: ignore[union-attr]
    again = load_generator(tmp_path / "g")
    assert again.fingerprint() == generator.fingerprint()
    with refused("vqgan/config.json"):
        load_generator(tmp_path)
    with refused("genkt:digits_generater"):
        load_generator("genkt:digits_generater")


@pytest.mark.parametrize("part", ["vqgan", "transformer"])
def test_a_flipped_byte_in_a_generator_is_told(part: str, tmp_path: Path) -> None:
    folder = save_tiny_generator(tmp_path / "generator")
    (path,) = (folder / part).glob("*.safetensors")
    before = load_generator(folder).fingerprint()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=re.escape(f"{path}: damaged")):
        load_generator(folder)
    (folder / part / SEALS).unlink()  # as older ones are: taken as it is
    assert load_generator(folder).fingerprint() != before
