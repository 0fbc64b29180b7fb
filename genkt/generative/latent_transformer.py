"""The latent transformer: taming's ``GPT`` over token grids, read in one of four directions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkt.files import require_sealed, sealed_folder
from genkt.generative.completer import Seeds
from genkt.generative.decoding.decoder import Decoder, Precision
from genkt.generative.decoding.sampling import Sampling, complete_sequences, uniforms_for
from genkt.io import did_you_mean, fingerprint_tensors, read_json, write_json
from genkt.types import UserError

SCANS = ("down", "up", "right", "left")
"""Orders to read a token grid, named by their direction: row by row from the top or the bottom,
column by column from the left or the right. What is hidden at one side is last in the scan towards
it."""

CONDITIONS = ("none", "class", "image")
"""What a start token names beside the scan: nothing, the class, or the kind of picture, which is
the nearest of some centres of code histograms."""


_CENTRES = "condition.centres"


@dataclass(frozen=True)
class TransformerConfig:
    """Shape of a latent transformer.

    Args:
        num_codes: tokens 0 to num_codes - 1 are codes of the VQGAN.
        grid: (h, w) of the tokens.
        num_layers, num_heads, width: of the GPT.
        vocab_size: codes and start tokens, in one table.  block_size: positions.
        scans: the directions it was trained on; raster order is ("down",).
        num_conditions: classes or kinds of pictures the start token can name; 0: it names none.
        sos_offset: the first start token. ``num_codes`` here; 0 in taming's own checkpoints,
            whose start tokens share their indices with codes.
        condition: what the start token names: none, class or image (see ``CONDITIONS``).
    """

    num_codes: int
    grid: tuple[int, int]
    num_layers: int
    num_heads: int
    width: int
    vocab_size: int
    block_size: int
    scans: tuple[str, ...] = ("down",)
    num_conditions: int = 0
    sos_offset: int = 0
    condition: str = "none"

    def __post_init__(self) -> None:
        for scan in self.scans:
            if scan not in SCANS:
                hint = did_you_mean(scan, SCANS)
                raise UserError.of("scans", " | ".join(SCANS), f'"{scan}".{hint}')
        if self.condition not in CONDITIONS or (self.condition == "none") != (
            not self.num_conditions
        ):
            raise UserError.of(
                "condition",
                f"{' | '.join(CONDITIONS)}, and num_conditions above 0 unless none",
                f"{self.condition} with {self.num_conditions}",
            )
        num_sos = len(self.scans) * max(1, self.num_conditions)
        if self.vocab_size < max(self.num_codes, self.sos_offset + num_sos):
            raise UserError.of(
                "vocab_size",
                (
                    f"at least {max(self.num_codes, self.sos_offset + num_sos)} ({self.num_codes} "
                    f"codes, {num_sos} start tokens)"
                ),
                self.vocab_size,
            )
        if self.block_size < self.grid[0] * self.grid[1]:
            raise UserError.of(
                "block_size",
                (
                    f"at least {self.grid[0] * self.grid[1]} for a grid of {self.grid[0]} x "
                    f"{self.grid[1]} tokens"
                ),
                self.block_size,
            )

    @staticmethod
    def of(
        num_codes: int, grid: tuple[int, int], *, num_layers: int, num_heads: int, width: int,
        scans: tuple[str, ...] = SCANS, num_conditions: int = 0, condition: str = "none",
    ) -> TransformerConfig:  # fmt: skip
        """genkt's own layout: start tokens behind the codes, one per scan and condition."""
        num_sos = len(scans) * max(1, num_conditions)
        return TransformerConfig(
            num_codes, grid, num_layers, num_heads, width, num_codes + num_sos,
            grid[0] * grid[1], scans, num_conditions, num_codes, condition,
        )  # fmt: skip


class LatentTransformer(nn.Module):
    """A GPT that continues token grids (a ``TokenCompleter``).

    The start token names the scan, so one network completes any side: the picture is never
    flipped, only its tokens are read in another order.

    Args:
        gpt: ``taming.modules.transformer.mingpt.GPT``.  config: its shape.

    Attributes:
        centres: [num_conditions, num_codes] of condition=image; else empty.

    Example:
        >>> config = TransformerConfig.of(16, (4, 4), num_layers=1, num_heads=2, width=8)
        >>> transformer = LatentTransformer.build(config)
        >>> tokens = torch.zeros(1, 4, 4, dtype=torch.long)
        >>> hidden = torch.zeros(1, 4, 4, dtype=torch.bool)
        >>> hidden[:, :2] = True  # the upper half
        >>> transformer.complete(tokens, hidden, [[1, 2]], Sampling()).shape
        torch.Size([1, 2, 4, 4])
    """

    centres: Tensor

    def __init__(self, gpt: nn.Module, config: TransformerConfig) -> None:
        super().__init__()
        self.gpt: Any = gpt
        self.config = config
        rows = config.num_conditions if config.condition == "image" else 0
        self.register_buffer("centres", torch.zeros(rows, config.num_codes))
        self._decoders: dict[tuple[str, torch.device], Decoder] = {}

    @staticmethod
    def build(config: TransformerConfig, *, dropout: float = 0.0) -> LatentTransformer:
        """An untrained network; its weights come from torch's global generator."""
        from taming.modules.transformer.mingpt import GPT

        gpt = GPT(
            config.vocab_size, config.block_size, n_layer=config.num_layers,
            n_head=config.num_heads, n_embd=config.width,
            embd_pdrop=dropout, resid_pdrop=dropout, attn_pdrop=dropout,
        )  # fmt: skip
        return LatentTransformer(gpt, config)

    @property
    def num_codes(self) -> int:
        """Codes of the VQGAN it belongs to."""
        return self.config.num_codes

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the tokens."""
        return self.config.grid

    @cached_property
    def orders(self) -> Tensor:
        """[scans, T]: for each scan, the raster positions in the order they are read."""
        return torch.stack([scan_order(scan, self.grid) for scan in self.config.scans])

    def start_tokens(self, scans: Tensor, conditions: Tensor | None) -> Tensor:
        """[B] the token that stands before a sequence.

        Args:
            scans: [B] index into ``config.scans``.  conditions: [B], or None.

        Raises:
            UserError: conditions for a network that takes none, or the other way round.
        """
        count = self.config.num_conditions
        if (conditions is not None) != (count > 0):
            raise UserError.of(
                "conditions",
                "one class per image" if count else "none",
                "none" if conditions is None else "some",
            )
        if conditions is None:
            return self.config.sos_offset + scans
        if len(conditions) and not 0 <= int(conditions.min()) <= int(conditions.max()) < count:
            raise UserError.of("conditions", f"0 to {count - 1}", sorted(set(conditions.tolist())))
        return self.config.sos_offset + conditions * len(self.config.scans) + scans

    def conditions_of(self, tokens: Tensor, labels: Tensor | None) -> Tensor | None:
        """[B] what the start tokens of whole pictures name, or None.

        Args:
            tokens: [B, h, w] of the pictures, nothing hidden.  labels: [B] classes, or None.

        Raises:
            UserError: a class-conditional network and pictures without classes.
        """
        if self.config.condition == "none":
            return None
        if self.config.condition == "image":
            rows = code_histograms(tokens, self.num_codes).to(self.centres.device)
            return torch.cdist(rows, self.centres).argmin(dim=1)
        if labels is None or (labels < 0).any():
            raise UserError("conditions: this transformer needs the class of every image")
        return labels

    def complete(
        self, tokens: Tensor, hidden: Tensor, seeds: Seeds, sampling: Sampling,
        conditions: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """See ``TokenCompleter``; each grid is read so that the fewest visible tokens come last.

        Raises:
            UserError: grids of another size, or tokens that are no codes.
        """
        self._check(tokens, hidden)
        device = self.gpt.pos_emb.device
        num_tokens = self.grid[0] * self.grid[1]
        flat, unknown = tokens.flatten(1).cpu(), hidden.flatten(1).cpu()
        scans = choose_scans(unknown, self.orders)
        order = self.orders[scans]
        sequences = complete_sequences(
            self.decoder(sampling.precision),
            self.start_tokens(scans, None if conditions is None else conditions.cpu()).to(device),
            flat.gather(1, order).to(device),
            unknown.gather(1, order).to(device),
            uniforms_for(seeds, num_tokens).to(device),
            self.num_codes,
            sampling,
        )
        back = order.argsort(dim=1).to(device)[:, None].expand_as(sequences)
        return sequences.gather(2, back).view(*sequences.shape[:2], *self.grid)

    def decoder(self, precision: Precision) -> Decoder:
        """The weights laid out for sampling; made once per precision, device and state."""
        key = (precision, self.gpt.pos_emb.device)
        if key not in self._decoders or not self._decoders[key].current:
            self._decoders[key] = Decoder(self.gpt, precision)
        return self._decoders[key]

    def save(self, directory: str | Path, *, half: bool = False) -> Path:
        """Write ``config.json`` and ``model.safetensors``; ``half``: in float16."""
        from safetensors.torch import save

        state = {name: value for name, value in self.gpt.state_dict().items() if _stored(name)}
        weights = {
            name: (value.half() if half else value).detach().cpu().contiguous()
            for name, value in state.items()
        }
        if len(self.centres):
            weights[_CENTRES] = self.centres.detach().cpu()
        data = save(weights, {"format": "pt"})
        with sealed_folder(directory, len(data)) as temporary:
            (temporary / "model.safetensors").write_bytes(data)
            write_json(temporary / "config.json", asdict(self.config))
        return Path(directory)

    @staticmethod
    def load(directory: str | Path) -> LatentTransformer:
        """Read a folder that ``save`` wrote; weights become float32.

        Raises:
            UserError: no such folder, or files that do not fit together.
        """
        from safetensors.torch import load_file

        path = Path(directory)
        if not (path / "config.json").is_file():
            raise UserError(f"{path}: expected a latent transformer (config.json), found none")
        require_sealed(path)
        try:
            values = read_json(path / "config.json")
            values["grid"], values["scans"] = tuple(values["grid"]), tuple(values["scans"])
            transformer = LatentTransformer.build(TransformerConfig(**values))
            weights = {k: v.float() for k, v in load_file(path / "model.safetensors").items()}
            transformer.centres.copy_(weights.pop(_CENTRES, transformer.centres))
            loaded = transformer.gpt.load_state_dict(weights, strict=False)
        except Exception as error:  # a damaged file raises anything
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: not a readable latent transformer: {reason}") from error
        missing = [name for name in loaded.missing_keys if _stored(name)]
        if missing or loaded.unexpected_keys:
            raise UserError(
                f"{path}: expected the weights of a GPT of this shape; missing "
                f"{missing[:3]}, unexpected {loaded.unexpected_keys[:3]}"
            )
        return transformer.eval().requires_grad_(False)

    def fingerprint(self) -> str:
        """Hash of all weights."""
        return fingerprint_tensors(self.state_dict())

    def _check(self, tokens: Tensor, hidden: Tensor) -> None:
        expected = (len(tokens), *self.grid)
        for name, grid in (("tokens", tokens), ("hidden", hidden)):
            if tuple(grid.shape) != expected:
                raise UserError.of(name, f"shape {expected}", tuple(grid.shape))


def scan_order(scan: str, grid: tuple[int, int]) -> Tensor:
    """[h w] raster positions in the order that a scan reads them.

    >>> scan_order("left", (2, 2)).tolist()
    [1, 3, 0, 2]
    """
    positions = torch.arange(grid[0] * grid[1]).view(grid)
    return {
        "down": positions,
        "up": positions.flip(0),
        "right": positions.T,
        "left": positions.flip(1).T,
    }[scan].reshape(-1)


def choose_scans(hidden: Tensor, orders: Tensor) -> Tensor:
    """[B] for each mask the scan with the fewest visible tokens after its first hidden one.

    Args:
        hidden: [B, T] bool in raster order.  orders: [scans, T].
    """
    read = hidden[:, orders]  # [B, scans, T]
    after_first = read.cumsum(dim=2) > 0
    return (after_first & ~read).sum(dim=2).argmin(dim=1)


def code_histograms(tokens: Tensor, num_codes: int) -> Tensor:
    """[B, num_codes] square roots of the codes' shares: their distances are Hellinger's."""
    counts = F.one_hot(tokens.flatten(1), num_codes).sum(dim=1)
    return (counts / counts.sum(dim=1, keepdim=True)).sqrt()


def _stored(name: str) -> bool:
    """Whether a tensor belongs in a file: the causal masks follow from the shape."""
    return not name.endswith("attn.mask")
