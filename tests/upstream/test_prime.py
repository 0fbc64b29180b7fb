"""``genkt prime``: trains, measures, saves; resumes exactly; keeps its codebook alive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from forked import Command, until
from prime_cases import prime_config, prime_words
from refusals import refused
from tiny import run, write_images

from genkt.generative.generator import load_generator
from genkt.generative.latent_transformer import LatentTransformer
from genkt.generative.perceptual import TeacherFeatures
from genkt.io import read_json
from genkt.models.load import ModelSpec, load_model
from genkt.training.steps import run_steps
from genkt.upstream.generator.generator_figures import feature_model
from genkt.upstream.generator.prime_generator import prime
from genkt.upstream.generator.train_transformer import TransformerTraining, negative_log_likelihood
from genkt.upstream.generator.train_vqgan import VQGANTraining, perceptual_of
from genkt.upstream.upstream_pictures import FolderUpstream, GlyphUpstream

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def glyphs() -> GlyphUpstream:
    """The built-in upstream at 16 pixels, batches of 16."""
    return GlyphUpstream(16, 0, 16)


@pytest.fixture(scope="module")
def primed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run through the command line."""
    out = tmp_path_factory.mktemp("prime") / "run"
    ran = run("prime", *prime_words(out))
    assert ran.code == 0, ran.err
    return out


def records(run_folder: Path) -> list[dict[str, object]]:
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_leaves_a_generator_with_card_figures_and_sheets(primed: Path) -> None:
    generator = load_generator(primed / "generator")
    assert generator.size == 16 and generator.vqgan.num_codes == 16
    assert isinstance(generator.completer, LatentTransformer)
    figures = read_json(primed / "report.json")
    assert figures == read_json(primed / "generator" / "figures.json")
    wanted = {"psnr", "fd", "fd_floor", "held_out_codes", "held_out_perplexity", "nats_down"}
    assert wanted <= set(figures["upstream"])
    card = (primed / "generator" / "README.md").read_text()
    assert f"{figures['upstream']['psnr']:.1f}" in card and "8 x 8 tokens of 16 codes" in card
    for sheet in ("reconstructions.png", "completions.png"):
        assert (primed / "generator" / sheet).stat().st_size > 1000
    assert {record["stage"] for record in records(primed)} == {"vqgan", "transformer"}
    assert sorted(p.name for p in (primed / "samples").iterdir()) == [
        "transformer-000003.png", "vqgan-000003.png",
    ]  # fmt: skip


def test_a_finished_run_is_not_overwritten(primed: Path) -> None:
    ran = run("prime", *prime_words(primed, "vqgan.steps=4"))
    assert ran.code == 2 and "vqgan.steps: was 3, now 4" in ran.err


def test_a_killed_run_ends_with_the_same_bits(primed: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of each training; then the same command to the end."""
    out = tmp_path / "run"
    words = [word for word in prime_words(primed) if not word.startswith("out=")]
    for stage in ("vqgan", "transformer"):
        process = Command(["prime", *words, f"out={out}"])
        until((out / stage / "state.pt").is_file, process)
        process.kill()
    config = replace(prime_config(primed), out=str(out))
    prime(config, "again")
    ours, theirs = (load_generator(folder / "generator") for folder in (out, primed))
    assert ours.fingerprint() == theirs.fingerprint()
    assert records(out) == records(primed)


@pytest.mark.parametrize("condition", ["class", "image"])
def test_conditions_are_learned_from(condition: str, tmp_path: Path) -> None:
    config = prime_config(tmp_path / "run", f"transformer.condition={condition}",
                          "transformer.num_clusters=3")  # fmt: skip
    prime(config, "test")
    generator = load_generator(tmp_path / "run" / "generator")
    assert isinstance(generator.completer, LatentTransformer)
    assert generator.completer.config.num_conditions == 3
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[8:] = True
    classes = torch.arange(3) if condition == "class" else None
    assert generator.complete(images, mask, conditions=classes).images.shape == (3, 1, 3, 16, 16)


def test_the_codebook_stays_alive(glyphs: GlyphUpstream, tmp_path: Path) -> None:
    """k-means start, moving averages and restarts: after 60 steps nearly every code is in use."""
    words = ["vqgan.num_codes=64", "vqgan.steps=60", "vqgan.batch_size=16", "vqgan.gan.start=1"]
    settings = prime_config(tmp_path / "run", *words).vqgan
    training = VQGANTraining(settings, glyphs, size=16, seed=0, device=CPU)
    first = [training.run_step()["loss"] for _ in range(5)]
    while training.step < settings.steps:
        figures = training.run_step()
    assert figures["codes"] >= 58 and figures["perplexity"] > 20
    assert figures["loss"] < 0.85 * sum(first) / 5
    codes = training.vqgan().codebook
    assert torch.allclose(codes.norm(dim=1), torch.ones(64), atol=1e-5)


def test_the_discriminator_waits_for_its_time(glyphs: GlyphUpstream, tmp_path: Path) -> None:
    words = ["vqgan.steps=10", "vqgan.gan.start=0.6", "vqgan.gan.warmup=0.3"]
    settings = prime_config(tmp_path / "run", *words).vqgan
    training = VQGANTraining(settings, glyphs, size=16, seed=0, device=CPU)
    seen = [set(training.run_step()) for _ in range(10)]
    assert [("discriminator" in s, "adversarial" in s) for s in seen] == (
        [(False, False)] * 3 + [(True, False)] * 3 + [(True, True)] * 4
    )


def test_the_transformer_learns_more_than_the_shares(glyphs: GlyphUpstream, tmp_path: Path) -> None:
    """Nats a token of held-out pictures fall below the entropy of the codes' shares."""
    out = tmp_path / "run"
    words = ["transformer.steps=60", "transformer.lr=5e-3", "vqgan.steps=30", "vqgan.gan.start=1"]
    config = prime_config(out, *words)
    tokenizer = VQGANTraining(config.vqgan, glyphs, size=16, seed=0, device=CPU)
    for _ in range(30):
        tokenizer.run_step()
    vqgan = tokenizer.vqgan()
    training = TransformerTraining(config.transformer, vqgan, glyphs, seed=0, device=CPU)
    losses = []
    run_steps(
        training, 60, out / "state.pt", "x", save_seconds=100,
        report=lambda _, figures: losses.append(figures["loss"]),
    )  # fmt: skip
    tokens = vqgan.encode(glyphs.sample(32, 9))
    shares = torch.bincount(tokens.flatten(), minlength=16) / tokens.numel()
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum().item()
    scans = torch.arange(32) % 4
    labels = torch.full((32,), -1)
    held_out = negative_log_likelihood(training.transformer.eval(), tokens, scans, labels).item()
    assert held_out < entropy < losses[0]


def test_the_models_that_judge_have_their_weights(tmp_path: Path) -> None:
    trained = load_model(ModelSpec("genkt:digits_teacher")).fingerprint()
    assert feature_model("genkt:digits_teacher").fingerprint() == trained
    settings = prime_config(tmp_path / "run", "vqgan.perceptual.kind=teacher").vqgan.perceptual
    for pretrained in (True, False):
        distance = perceptual_of(replace(settings, pretrained=pretrained), CPU)
        assert isinstance(distance, TeacherFeatures)
        assert (distance.teacher.fingerprint() == trained) == pretrained


def test_upstream_steps_are_functions_of_seed_and_step(
    glyphs: GlyphUpstream, tmp_path: Path
) -> None:
    root = str(write_images(tmp_path / "images"))
    pairs = [
        (GlyphUpstream(16, 0, 16), glyphs),
        tuple(FolderUpstream([root], 16, 0, 16, num_workers=0) for _ in range(2)),
    ]
    for upstream, again in pairs:
        straight = [images for images, _ in upstream.iterate(0, 3)]
        resumed = [images for images, _ in again.iterate(2, 3)]
        assert torch.equal(straight[2], resumed[0])
        assert straight[0].shape == (16, 3, 16, 16) and straight[0].dtype == torch.uint8
        assert not torch.equal(straight[0], straight[1])
        assert torch.equal(upstream.sample(5, 1), again.sample(5, 1))
        assert not torch.equal(upstream.sample(5, 1), upstream.sample(5, 2))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vqgan.steps=0"], "give vqgan.weights=FOLDER too"),
        (["size=15"], "size: expected a multiple of 2"),
        (["vqgan.perceptual.kind=lpips"], "needs two files"),
        (["transformer.scans=[dwn]"], "Did you mean down"),
        (["upstream=nowhere"], "nowhere"),
        (["vqgan.codes=3"], "vqgan.codes"),
    ],
)
def test_mistakes_are_told_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    ran = run("prime", *prime_words(tmp_path / "run", *words))
    assert ran.code == 2 and said in ran.err, ran.err


def test_a_given_vqgan_is_kept(primed: Path, tmp_path: Path) -> None:
    words = [f"vqgan.weights={primed / 'generator' / 'vqgan'}", "vqgan.steps=0"]
    config = prime_config(tmp_path / "run", *words, "transformer.steps=1")
    prime(config, "test")
    ours, theirs = (load_generator(p / "generator") for p in (tmp_path / "run", primed))
    assert ours.vqgan.fingerprint() == theirs.vqgan.fingerprint()
    with refused("VQGAN", 32):
        prime(replace(config, size=32, out=str(tmp_path / "other")), "test")
