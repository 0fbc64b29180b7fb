"""End-to-end synthesis: images/s and tokens/s beside the sampler alone, overlap, flat memory.

    python benchmarks/synthesis.py [GENERATOR]

GENERATOR is a folder or genkt:NAME; by default an untrained one of the shipped one's kind of size.

- ``end_to_end``: sources from disk, masks, encoder, sampling, decoder, WebP files, manifest.
- ``draw_alone``: the sampler on the same requests, nothing else; the ratio is what all the rest
  costs.
- ``overlap``: images encoded in threads beside the networks, over one after the other.
- ``memory_mb``: peak resident memory of a process that makes N images, and 4 N (Linux).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import paired, report, seconds

NUM_IMAGES = 400


def settings(num_images: int, **changes: Any) -> Any:
    """DIGG with the defaults of ``configs/synthesize.yaml``."""
    from genkt.config.synthesis_settings import DiggSettings, FilterSettings, SynthesisSettings
    from genkt.generative.decoding.sampling import Sampling
    from genkt.generative.masks import MaskSettings
    from genkt.transfer_set.set_files import ImageFiles

    method = DiggSettings(
        "digg", num_images=num_images, num_masks=1, samples_per_mask=4, masks=MaskSettings(),
        sampling=Sampling(), encode="masked", fill="edge", dilation=1, keep_visible=False,
    )  # fmt: skip
    base = SynthesisSettings(
        synthesis=method, files=ImageFiles(), filters=FilterSettings(), shard_size=1000,
        max_sources=None, seed=0, batch_size=64, num_threads=2,
    )  # fmt: skip
    return replace(base, **changes)


def generator_of(name: str | None) -> Any:
    """The named generator, or an untrained one."""
    import torch

    from genkt.generative.generator import Generator, load_generator
    from genkt.generative.latent_transformer import LatentTransformer, TransformerConfig
    from genkt.generative.vqgan import VQGAN, build_vqmodel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name:
        return load_generator(name, device=device)
    torch.manual_seed(0)
    vqgan = VQGAN(build_vqmodel(num_codes=256, code_dim=16, channels=(32, 64, 64), size=32))
    vqgan.codebook.data.normal_()
    shape = TransformerConfig.of(256, vqgan.grid, num_layers=4, num_heads=4, width=128)
    completer = LatentTransformer.build(shape).eval().requires_grad_(False)
    return Generator(vqgan, completer, "untrained").to(device)


def make(name: str | None, num_images: int, **changes: Any) -> dict[str, Any]:
    """Make a set in a folder that goes away; its marker facts, and seconds."""
    from genkt.data.builtin.digits import digits
    from genkt.synthesis.synthesize_set import run_synthesis

    generator = generator_of(name)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        found = run_synthesis(
            settings(num_images, **changes), digits().train, Path(folder) / "set",
            generator=generator,
        )  # fmt: skip
        taken = time.perf_counter() - started
    tokens = found.header["drawn_tokens"]
    return {
        "images": num_images, "seconds": taken, "images_per_second": num_images / taken,
        "tokens_per_second": tokens / taken, "tokens": tokens,
    }  # fmt: skip


def draw_alone(name: str | None, num_images: int) -> dict[str, Any]:
    """The same completions' tokens, drawn and thrown away."""
    import torch

    from genkt.data.builtin.digits import digits
    from genkt.generative.generator import fit_picture
    from genkt.generative.masks import to_pixels
    from genkt.io import derive_seed
    from genkt.synthesis.make_images import source_mask
    from genkt.synthesis.plan_images import ordered_sources

    generator, chosen = generator_of(name), settings(num_images)
    method, vqgan = chosen.synthesis, generator.vqgan
    images = ordered_sources(digits().train, chosen)
    batches = []
    for start in range(0, num_images // 4, 16):
        rows = range(start, min(start + 16, num_images // 4))
        ids = [images.ids[row] for row in rows]
        pictures = [torch.from_numpy(fit_picture(images.load(r), vqgan.size).copy()) for r in rows]
        stacked = torch.stack(pictures).permute(0, 3, 1, 2).contiguous()
        masks = torch.stack([source_mask(method.masks, vqgan.grid, 0, each, 0) for each in ids])
        covered = to_pixels(masks, vqgan.downsampling)
        tokens, hidden = generator.visible_tokens(stacked, covered, method.options)
        batches.append((tokens, hidden, [[derive_seed(0, i, 0, s) for s in range(4)] for i in ids]))
    drawn = 4 * sum(int(hidden.sum()) for _, hidden, _ in batches)

    def draw() -> None:
        for tokens, hidden, seeds in batches:
            generator.draw(tokens, hidden, seeds, method.sampling)

    draw()
    taken = seconds(draw)
    return {"seconds": taken, "tokens_per_second": drawn / taken,
            "images_per_second": num_images / taken}  # fmt: skip


def peak(name: str | None, num_images: int) -> float:
    """MB of a fresh process that makes so many images."""
    words = [sys.executable, __file__, name or "", "--peak", str(num_images)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def overlap(name: str | None, num_images: int, pairs: int) -> dict[str, Any]:
    """Seconds without over seconds with encoding beside the networks."""
    from concurrent.futures import Future

    from genkt.synthesis import shard as synthesis_shard

    class Inline:
        """A pool that works at once, in the caller's thread."""

        def __init__(self, _: int) -> None: ...

        def __enter__(self) -> Inline:
            return self

        def __exit__(self, *_: object) -> None: ...

        def submit(self, function: Any, *arguments: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(function(*arguments))
            return future

    threads = synthesis_shard.ThreadPoolExecutor

    def run(pool: Any) -> None:
        synthesis_shard.ThreadPoolExecutor = pool
        make(name, num_images)

    found = paired(lambda: run(Inline), lambda: run(threads), pairs=pairs)
    return found


def main(name: str | None) -> None:
    make(name, 64)  # what comes first is slower
    results = {
        "end_to_end": make(name, NUM_IMAGES),
        "draw_alone": draw_alone(name, NUM_IMAGES),
        "overlap": overlap(name, NUM_IMAGES // 2, pairs=5),
        "memory_mb": {str(n): peak(name, n) for n in (NUM_IMAGES, 4 * NUM_IMAGES)},
    }
    few, many = results["memory_mb"].values()
    results["share_of_draw"] = results["draw_alone"]["seconds"] / results["end_to_end"]["seconds"]
    results["memory_growth"] = many / few
    report("synthesis", results, {"memory_growth": "< 1.05", "overlap ratio": "> 1"})


if __name__ == "__main__":
    given = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] else None
    if "--peak" in sys.argv:
        made = make(given, int(sys.argv[-1]))
        print(json.dumps(made))
        # Not getrusage: its peak begins with that of the process which started this one.
        status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
        print(int(status.split()[0]) / 1000)
    else:
        main(given)
